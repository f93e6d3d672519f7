"""Threads of this process: the contract, the reference's bits, and nothing left running."""

from __future__ import annotations

import os
import threading

import dask.system
import numpy as np
import pytest
import scipy.sparse as sp
from threadpoolctl import threadpool_limits

import dnmf
from dnmf.errors import OptionError
from dnmf.executors import threads
from dnmf.executors.choose import choose_executor
from dnmf.executors.threads import Threads
from dnmf.linalg import blas
from dnmf.linalg.blas import allowed_threads, one_thread
from dnmf.planning.memory import needs_of, predict_memory
from dnmf.steps.events import Committed
from dnmf.steps.serial import Serial
from dnmf.testing.executor_contract import ExecutorContract
from dnmf.testing.problems import planted_poisson
from dnmf.testing.works import TreeWork

pytestmark = pytest.mark.timeout(120)


class TestThreads(ExecutorContract):
    kind = "threads"

    @pytest.fixture
    def executor(self):
        return Threads(3)


LOSSES = {
    "frobenius": {},
    "kullback-leibler": {"loss": "kullback-leibler"},
    "masked": {"missing": "zeros"},
    "penalties": {"alpha_W": 0.01, "l1_ratio": 0.5},
}


@pytest.mark.parametrize("options", LOSSES.values(), ids=LOSSES)
@pytest.mark.parametrize("sparse", [False, True])
def test_in_memory_it_has_the_bits_of_the_reference(sparse, options):
    V = planted_poisson(400, 30, 3).V
    if options.get("missing") and not sparse:
        pytest.skip("missing zeros are about sparse data")
    V = sp.csr_array(V) if sparse else V
    common = {"k": 3, "seed": 4, "segments": 20, "max_passes": 3, "tol": 0, "n_init": 2, **options}
    common["block_size"] = 20 * 64 * 4
    alone = dnmf.fit(V, executor=Serial(), **common)
    many = dnmf.fit(V, executor=Threads(4), **common)
    assert alone.details["layout"]["segments"] == 20
    np.testing.assert_array_equal(many.W, alone.W)
    np.testing.assert_array_equal(many.H, alone.H)
    ours, theirs = ([row["objective"] for row in r.history] for r in (many, alone))
    assert ours == theirs


class _Meeting(TreeWork):
    """Leaves that wait until so many of them run at the same time."""

    def __init__(self, folder, segments, together):
        super().__init__(folder, segments, 1)
        self.barrier = threading.Barrier(together)

    def leaf(self, segment, loaded=None):
        self.barrier.wait(timeout=30)
        return super().leaf(segment)


def test_leaves_run_side_by_side(tmp_path):
    work = _Meeting(str(tmp_path), 9, 3)
    assert Threads(3).run_step(work, lambda segment: None).results == work.expected()


class _Ahead(TreeWork):
    """Counts the leaves that have begun."""

    def __init__(self, folder):
        super().__init__(folder, 40, 1)
        self.begun = []

    def leaf(self, segment, loaded=None):
        self.begun.append(segment)
        return super().leaf(segment)


def test_it_runs_few_leaves_ahead_of_the_sums(tmp_path):
    """Else the sums that wait would be more than the plan counts."""
    work, told, most = _Ahead(str(tmp_path)), [], []

    def on_leaf(segment):
        told.append(segment)
        most.append(len(work.begun) - len(told))

    Threads(2).run_step(work, on_leaf)
    assert told == list(range(40))
    assert max(most) <= 2


def test_a_listener_that_fails_leaves_nothing_running(tmp_path):
    def on_leaf(segment):
        raise KeyboardInterrupt

    work = TreeWork(str(tmp_path), 40, 1)
    with pytest.raises(KeyboardInterrupt):
        Threads(2).run_step(work, on_leaf)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("dnmf-leaf")]
    assert sum(work.calls().values()) <= 3  # the first, and those that had begun


def suited(V, in_memory=True, **options):
    options = {"block_size": 20 * 64 * 4, **options}
    plan = dnmf.plan(V, 3, resources=Serial().resources(), **options).plan
    return Threads().resources(needs_of(plan, in_memory))


@pytest.fixture
def processors(monkeypatch):
    """Eight, of which BLAS may use five, and memory for all; what is asked for is returned."""
    asked = {"cpu": 8, "blas": 5, "free": 1 << 50}
    monkeypatch.setattr(dask.system, "CPU_COUNT", asked["cpu"])
    monkeypatch.setattr(threads, "allowed_threads", lambda: asked["blas"])
    monkeypatch.setattr(threads, "free_memory", lambda: asked["free"])
    return asked


def test_by_default_there_are_as_many_threads_as_blas_may_use(processors):
    V = planted_poisson(400, 30, 3).V
    assert suited(V, segments=20).threads == 5
    processors["blas"] = 100
    assert suited(V, segments=20).threads == 8  # not more than processors
    processors["blas"] = 0  # a BLAS that does not say
    assert suited(V, segments=20).threads == 8
    assert suited(V, segments=6).threads == 6
    assert suited(V, segments=1, n_init=3).threads == 4  # starts, side by side
    assert suited(V, segments=1, n_init=1) == Serial().resources()
    assert suited(V, in_memory=False, segments=20) == Serial().resources()


def test_the_number_suits_the_plan_that_is_run_next(processors):
    V = planted_poisson(400, 30, 3).V
    options = {"segments": 20, "block_size": 20 * 64 * 4, "resources": Serial().resources()}
    plan = dnmf.plan(V, 3, **options).plan
    executor = Threads()
    assert executor.resources(needs_of(plan, True)).threads == 5
    assert executor.resources().threads == 5  # of this plan
    assert executor.resources(needs_of(plan, False)).threads == 1
    assert Threads(2).resources(needs_of(plan, True)).threads == 2  # given


def test_it_takes_no_more_than_half_of_the_memory_that_is_free(processors):
    V = sp.random_array((400, 20_000), density=0.01, format="csr", dtype=np.float32, rng=0)
    options = {"segments": 20, "block_size": 20 * 64 * 4, "sample": 0}
    plan = dnmf.plan(V, 3, resources=Serial().resources(), **options).plan
    need = [predict_memory(plan, count).total for count in (1, 3, 4)]
    assert need[2] - need[1] > 100_000
    processors["free"] = need[1] + need[2] - 2 * need[0]  # half of it: two more than one
    assert suited(V, **options).threads == 3
    processors["free"] = 0
    assert suited(V, **options) == Serial().resources()


def test_how_many_is_said():
    text = Threads(5, 2 * 10**9).resources().description
    assert text == "5 threads of this process, 2.0 GB"
    assert Threads().resources() == Serial().resources()  # nothing is known of the data yet


def test_what_blas_may_use_is_seen_from_inside_of_a_limit():
    with threadpool_limits(2, user_api="blas"):
        outside = allowed_threads()
        with one_thread():
            assert allowed_threads() == outside >= 1


class _PerThread:
    """A BLAS on OpenMP, as some builds are: its limit is that of the thread that sets it."""

    user_api, threading_layer = "blas", "openmp"

    def __init__(self):
        self._local = threading.local()

    @property
    def num_threads(self):
        return getattr(self._local, "count", 4)

    def set_num_threads(self, count):
        self._local.count = count


def test_a_blas_whose_limit_holds_per_thread_has_one_in_each(tmp_path, monkeypatch):
    library, seen = _PerThread(), []
    monkeypatch.setattr(blas, "_libraries", lambda: [library])
    assert allowed_threads() == 4

    class Work(TreeWork):
        def leaf(self, segment, loaded=None):
            seen.append(library.num_threads)
            return super().leaf(segment)

    Threads(2).run_step(Work(str(tmp_path), 9, 1), lambda segment: None)
    assert seen == [1] * 9
    assert library.num_threads == 4


def test_calls_without_a_client_use_them_for_data_in_memory(processors, tmp_path):
    V = planted_poisson(400, 30, 3).V
    assert type(choose_executor(None, None)) is Threads
    options = {"segments": 20, "block_size": 20 * 64 * 4, "max_passes": 2}
    assert dnmf.plan(V, 3, **options).resources.threads == 5
    np.save(tmp_path / "V.npy", V)
    assert dnmf.plan(tmp_path / "V.npy", 3, **options).resources.threads == 1
    names = set()

    def look(event):
        names.update(thread.name for thread in threading.enumerate())

    dnmf.fit(V, 3, on_event=look, **options)
    assert {name for name in names if name.startswith("dnmf-leaf")}


def test_a_run_that_goes_on_with_data_in_memory_has_several_too(processors, tmp_path):
    V, seen = planted_poisson(400, 30, 3).V, set()
    options = {"k": 3, "seed": 1, "segments": 20, "block_size": 20 * 64 * 4, "tol": 0}

    def stop(event):
        if isinstance(event, Committed) and event.kind == "pass":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        dnmf.fit(V, out=tmp_path / "out", max_passes=3, on_event=stop, **options)

    def look(event):
        seen.update(thread.name for thread in threading.enumerate())

    dnmf.fit(V, out=tmp_path / "out", max_passes=3, resume=True, on_event=look, **options)
    assert any(name.startswith("dnmf-leaf") for name in seen)


def test_no_threads_are_refused():
    with pytest.raises(OptionError, match="threads=0 is less than 1"):
        Threads(0)


def test_a_killed_run_goes_on_with_other_threads(tmp_path):
    """The number of threads is no part of the run."""
    V = planted_poisson(300, 20, 3).V
    np.save(tmp_path / "V.npy", V)
    options = {"k": 3, "seed": 1, "segments": 6, "tol": 0, "sample": 0, "block_size": 20 * 64 * 4}
    path = tmp_path / "V.npy"
    whole = dnmf.fit(path, out=tmp_path / "a", max_passes=4, executor=Serial(), **options)

    def stop(event):
        if isinstance(event, Committed) and event.kind == "pass":
            raise KeyboardInterrupt

    out = tmp_path / "b"
    with pytest.raises(KeyboardInterrupt):
        dnmf.fit(path, out=out, max_passes=4, executor=Threads(3), on_event=stop, **options)
    result = dnmf.resume(out, executor=Threads(2))
    assert os.path.isdir(out)
    np.testing.assert_array_equal(result.W[:], whole.W[:])
    np.testing.assert_array_equal(result.H[:], whole.H[:])
