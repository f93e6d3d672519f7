"""Fits that are called from a task, from an event loop, or with a listener that fails."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
from distributed import Client, get_client, worker_client
from executor_tools import OPTIONS, PASSES, assert_undisturbed, fit, in_process

import dnmf
from dnmf.errors import OptionError
from dnmf.steps.events import Committed, Progress
from dnmf.testing.problems import planted_poisson

pytestmark = [pytest.mark.timeout(120), pytest.mark.cluster]

SMALL = {"seed": 1, "max_passes": 3}


@pytest.fixture(scope="module")
def one_thread():
    """A client of a cluster of one worker with one thread, in this process."""
    with in_process(1) as cluster, Client(cluster, set_as_default=False) as client:
        yield client


def _alone(V):
    get_client()  # from now on Dask's own calls in this worker's tasks would take it
    found = dnmf.fit(V, 3, **SMALL)
    return found.H[:], found.path


def _with_its_client(V, out):
    dnmf.fit(V, out=out, client=get_client(), **OPTIONS)


def _aside(V, out):
    with worker_client(separate_thread=True) as client:
        dnmf.fit(V, out=out, client=client, **OPTIONS)


def test_a_fit_within_a_task_runs_in_its_thread(one_thread):
    V = planted_poisson(40, 12, 3).V
    expected = dnmf.fit(V, 3, **SMALL)
    for _ in range(2):
        H, path = one_thread.submit(_alone, V, pure=False).result(60)
        np.testing.assert_array_equal(H, expected.H[:])
        assert path is None


@pytest.mark.parametrize("task", [_with_its_client, _aside])
def test_a_fit_within_a_task_waits_for_others_without_its_thread(
    one_thread, undisturbed, tmp_path, task
):
    one_thread.submit(task, undisturbed.V, str(tmp_path / "out")).result(60)
    assert_undisturbed(dnmf.open(tmp_path / "out"), undisturbed)


def test_on_the_event_loop_of_an_asynchronous_client(tmp_path):
    V = planted_poisson(40, 12, 3).V

    async def fits():
        async with (
            in_process(1, asynchronous=True) as cluster,
            Client(cluster, asynchronous=True) as client,
        ):
            out = tmp_path / "out"
            with pytest.raises(OptionError, match=r"await asyncio\.to_thread"):
                dnmf.fit(V, 3, out=out, client=client, **SMALL)
            assert not out.exists()
            here = dnmf.fit(V, 3, **SMALL)  # nobody spoke of a cluster
            there = await asyncio.to_thread(dnmf.fit, V, 3, out=out, client=client, **SMALL)
            return here.H[:], there.H[:]

    here, there = asyncio.run(fits())
    np.testing.assert_array_equal(here, there)


def test_what_a_listener_raises_ends_the_step(client, undisturbed, tmp_path):
    class EnoughError(Exception):
        pass

    seen = []

    def listen(event):
        if isinstance(event, Progress) and event.kind == "pass" and event.number == 2:
            raise EnoughError
        if isinstance(event, Committed):
            seen.append(event.kind)

    with pytest.raises(EnoughError):
        fit(undisturbed.V, tmp_path / "out", client, on_event=listen)
    assert seen.count("pass") == 1
    result = dnmf.resume(tmp_path / "out", client=client)
    assert_undisturbed(result, undisturbed)
    assert result.passes == PASSES
