"""A cluster without workers: an adaptive one starts some, for another one a fit waits so long."""

from __future__ import annotations

import logging

import pytest
from distributed import Client
from executor_tools import assert_undisturbed, fit, in_process, until

import dnmf
from dnmf.errors import ClusterError
from dnmf.executors import watch

pytestmark = [pytest.mark.timeout(120), pytest.mark.cluster]


@pytest.fixture
def empty():
    """A client of a cluster that has no workers."""
    with in_process(0) as cluster, Client(cluster, set_as_default=False) as client:
        yield client


def test_an_adaptive_cluster_starts_workers_for_a_fit(empty, undisturbed, tmp_path):
    empty.cluster.adapt(minimum=0, maximum=1, interval="100ms", wait_count=1)
    assert not watch.workers_of(empty)
    assert_undisturbed(fit(undisturbed.V, tmp_path / "out", empty), undisturbed)


def test_no_worker_comes(empty, undisturbed, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(watch, "NO_WORKERS", 1.0)
    monkeypatch.setattr(watch, "SOON", 0.2)
    told = "has no workers, and none came within 1 s; start some"
    with caplog.at_level(logging.WARNING, "dnmf"):
        with pytest.raises(ClusterError, match=told):
            fit(undisturbed.V, tmp_path / "out", empty)
        with pytest.raises(ClusterError, match=told):
            dnmf.plan(undisturbed.V, 4, client=empty)
    assert [record.getMessage() for record in caplog.records] == [
        f"the cluster at {watch.where(empty)} has no workers; waiting up to 1 s for the first one"
    ] * 2
    assert not (tmp_path / "out").exists()
    until(lambda: not empty.futures)
