"""Threads of this process: the contract, the reference's bits, and nothing left running."""

from __future__ import annotations

import os
import threading

import numpy as np
import pytest
import scipy.sparse as sp
from threadpoolctl import threadpool_limits

import dnmf
from dnmf.errors import OptionError
from dnmf.executors.choose import choose_executor
from dnmf.executors.serial import Serial
from dnmf.executors.threads import Threads
from dnmf.fitting.events import Committed
from dnmf.linalg import blas
from dnmf.linalg.blas import allowed_threads
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

    def leaf(self, segment):
        self.barrier.wait(timeout=30)
        return super().leaf(segment)


def test_leaves_run_side_by_side(tmp_path):
    work = _Meeting(str(tmp_path), 9, 3)
    assert Threads(3).run_step(work, lambda segment: None).results == work.expected()


class _Ahead(TreeWork):
    """Says how many leaves have begun."""

    begun = 0

    def leaf(self, segment):
        type(self).begun += 1
        return super().leaf(segment)


def test_it_runs_few_leaves_ahead_of_the_sums(tmp_path):
    """Else the sums that wait would be more than the plan counts."""
    told, most = [], []

    def on_leaf(segment):
        told.append(segment)
        most.append(_Ahead.begun - len(told))

    Threads(2).run_step(_Ahead(str(tmp_path), 40, 1), on_leaf)
    assert told == list(range(40))
    assert max(most) <= 3


def test_a_listener_that_fails_leaves_nothing_running(tmp_path):
    before = threading.active_count()

    def on_leaf(segment):
        raise KeyboardInterrupt

    work = TreeWork(str(tmp_path), 40, 1)
    with pytest.raises(KeyboardInterrupt):
        Threads(2).run_step(work, on_leaf)
    assert threading.active_count() == before
    assert sum(work.calls().values()) <= 4  # the first, and those that had begun


def test_by_default_there_are_as_many_threads_as_blas_may_use():
    with threadpool_limits(3, user_api="blas"):
        allowed = allowed_threads()  # fewer where the machine, or BLAS's build, has fewer
        assert Threads().resources().threads == allowed <= 3
    with threadpool_limits(1, user_api="blas"):
        assert Threads().resources() == Serial().resources()
    text = Threads(5, 2 * 10**9).resources().description
    assert text == "5 threads of this process, 2.0 GB"


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
    assert Threads().resources().threads == 4

    class Work(TreeWork):
        def leaf(self, segment):
            seen.append(library.num_threads)
            return super().leaf(segment)

    Threads(2).run_step(Work(str(tmp_path), 9, 1), lambda segment: None)
    assert seen == [1] * 9
    assert library.num_threads == 4


def test_calls_without_a_client_use_them():
    assert type(choose_executor(None, None)) is Threads
    names = set()

    def look(event):
        if isinstance(event, Committed):
            names.update(thread.name[:4] for thread in threading.enumerate())

    dnmf.fit(planted_poisson(60, 9, 2).V, 2, on_event=look)
    assert "dask" not in names


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
