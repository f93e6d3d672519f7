"""Packages that differ or are missing on a worker are named, with where, before a fit begins."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

import pytest
from executor_tools import OPTIONS, Machines, assert_undisturbed, connected, fit, until

import dnmf
from dnmf.errors import VersionMismatchError
from dnmf.executors.cluster import Cluster
from dnmf.executors.watch import workers_of
from dnmf.planning import plan as plan_module
from dnmf.planning.versions import PACKAGES, compare_versions, installed, package_versions
from dnmf.steps.serial import Serial
from dnmf.testing import faults
from dnmf.testing.faults import Fault

pytestmark = [pytest.mark.timeout(120), pytest.mark.cluster]

WITHOUT_NUMBA = """
from importlib import metadata
original = metadata.version
def version(name):
    if name == "numba":
        raise metadata.PackageNotFoundError(name)
    return original(name)
metadata.version = version
"""


def of_another_version(folder: Path) -> Path:
    """A folder that makes dnmf 0.0.1 of the installed one where it comes first on the path."""
    (folder / "dnmf-0.0.1.dist-info").mkdir(parents=True)
    about = "Metadata-Version: 2.1\nName: dnmf\nVersion: 0.0.1\n"
    (folder / "dnmf-0.0.1.dist-info" / "METADATA").write_text(about)
    return folder


@pytest.fixture
def strange(client, tmp_path):
    """A third worker of the shared cluster, that has dnmf 0.0.1 and no numba; its address."""
    folder = of_another_version(tmp_path / "packages")
    (folder / "sitecustomize.py").write_text(WITHOUT_NUMBA)
    before = set(workers_of(client))
    with Machines(tmp_path / "machines") as machines:
        machines.file.write_text(f'{{"address": "{client.scheduler.address}"}}')
        machines.start_worker("strange", PYTHONPATH=str(folder))
        client.wait_for_workers(len(before) + 1, timeout=60)
        (address,) = set(workers_of(client)) - before
        yield address
    until(lambda: address not in workers_of(client))


def test_a_worker_that_differs_is_named(client, strange, undisturbed, tmp_path):
    with pytest.raises(VersionMismatchError) as caught:
        compare_versions(Cluster(client))
    message = str(caught.value)
    mine = metadata.version("dnmf")
    assert f"dnmf is 0.0.1 on worker {strange}, {mine} here" in message
    assert f"numba is missing on worker {strange}" in message
    assert "Install the same versions everywhere" in message
    assert message.count(" here") == 2  # of nothing else, nowhere else
    with pytest.raises(VersionMismatchError, match=r"dnmf is 0\.0\.1"):
        fit(undisturbed.V, tmp_path / "out", client)
    assert not (tmp_path / "out").exists()


WITHOUT_DNMF = """
import sys
from importlib import metadata
original = metadata.version
def version(name):
    if name == "dnmf":
        raise metadata.PackageNotFoundError(name)
    return original(name)
metadata.version = version
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "dnmf":
            raise ModuleNotFoundError("No module named 'dnmf'")
sys.meta_path.insert(0, Absent())
"""


@pytest.mark.chaos
@pytest.mark.parametrize("where", ["scheduler", "worker"])
def test_where_dnmf_is_missing_is_named(undisturbed, tmp_path, where):
    """Refused before any graph is sent that could not be read there; with it the fit runs."""
    (tmp_path / "sitecustomize.py").write_text(WITHOUT_DNMF)
    without = {"PYTHONPATH": str(tmp_path)}
    with Machines(tmp_path / "machines") as machines:
        address = machines.start_scheduler(**(without if where == "scheduler" else {}))
        machines.start_worker("good")
        machines.start_worker("other", **(without if where == "worker" else {}))
        with connected(address, 2) as client:
            place = "the scheduler" if where == "scheduler" else r"worker tcp://\S+"
            mine = installed()["dnmf"]
            missing = rf"^dnmf is missing on {place}, {mine} here\. Install the same versions"
            with pytest.raises(VersionMismatchError, match=missing):
                fit(undisturbed.V, tmp_path / "out", client)
            assert not (tmp_path / "out").exists()
            if where == "worker":
                machines.kill("other")
                until(lambda: len(workers_of(client)) == 1)
                assert_undisturbed(fit(undisturbed.V, tmp_path / "out", client), undisturbed)


@pytest.mark.chaos
def test_another_version_on_the_scheduler_is_named(undisturbed, tmp_path):
    folder = of_another_version(tmp_path / "packages")
    with Machines(tmp_path / "machines") as machines:
        address = machines.start_scheduler(PYTHONPATH=str(folder))
        machines.start_worker("good")
        with connected(address, 1) as client:
            mine = installed()["dnmf"]
            differs = rf"^dnmf is 0\.0\.1 on the scheduler, {mine} here\. Install the same versions"
            with pytest.raises(VersionMismatchError, match=differs):
                fit(undisturbed.V, tmp_path / "out", client)
    assert not (tmp_path / "out").exists()


def test_one_that_does_not_differ(client):
    compare_versions(Cluster(client))
    assert set(package_versions(PACKAGES)) == {"python", *PACKAGES}


def test_a_run_goes_on_with_the_versions_that_it_began_with(undisturbed, tmp_path, monkeypatch):
    out = tmp_path / "out"
    stop = Fault("record-committed", "interrupt", {"index": 2})
    older = {**installed(), "dnmf": "0.0.9", "numba": "0.1"}
    with monkeypatch.context() as patch, faults.active(tmp_path / "f", [stop]):
        patch.setattr(plan_module, "installed", lambda: older)
        with pytest.raises(KeyboardInterrupt):
            dnmf.fit(undisturbed.V, out=out, executor=Serial(), **OPTIONS)
    assert dnmf.open(out).versions == older
    with pytest.raises(VersionMismatchError) as caught:
        dnmf.resume(out)
    message = str(caught.value)
    assert f"begun with dnmf 0.0.9 (here: {installed()['dnmf']}), numba 0.1 (here: " in message
    assert "Install dnmf==0.0.9 numba==0.1 to resume it, or start again with overwrite" in message
    result = dnmf.fit(undisturbed.V, out=out, executor=Serial(), overwrite=True, **OPTIONS)
    assert_undisturbed(result, undisturbed)
