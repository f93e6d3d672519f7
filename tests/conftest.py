"""What several test folders share: the real data, and one small cluster."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from distributed import Client

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder with real data: ``DNMF_DATA``, else ``../shared/data`` beside the project.

    Tests skip where it is absent, and fail instead under ``DNMF_REQUIRE_DATA=1``.
    """
    named = os.environ.get("DNMF_DATA")
    folder = Path(named) if named else ROOT.parent / "shared" / "data"
    if folder.is_dir():
        return folder.resolve()
    reason = f"no real data at {folder} (set DNMF_DATA to the folder that has them)"
    if os.environ.get("DNMF_REQUIRE_DATA") == "1":
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def client() -> Iterator[Client]:
    """A client of a local cluster: 2 processes of 1 thread, no dashboard."""
    import dask.config
    from distributed import Client, LocalCluster

    with (
        # else the cluster gives up a worker that happens to restart when it looks
        dask.config.set({"distributed.deploy.lost-worker-timeout": "1 day"}),
        LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            processes=True,
            dashboard_address=":0",  # any free port; None still tries one, and warns
            scheduler_kwargs={"dashboard": False},
        ) as cluster,
        Client(cluster, set_as_default=False) as connected,
    ):
        connected.wait_for_workers(2, timeout=60)
        yield connected


@pytest.hookimpl(tryfirst=True)  # before pytest deselects by marker
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whoever uses the shared cluster is a cluster test."""
    for item in items:
        if "client" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.cluster)
