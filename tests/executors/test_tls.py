"""A scheduler that requires TLS: refused in words without certificates, works with them."""

from __future__ import annotations

import shutil
import subprocess

import dask.config
import pytest
from executor_tools import Machines, assert_undisturbed, fit

from dnmf.errors import ClusterError
from dnmf.executors.local import connect

pytestmark = [pytest.mark.timeout(120), pytest.mark.cluster]


def test_without_certificates():
    with pytest.raises(ClusterError, match=r"requires TLS, .* Set distributed\.comm\.tls\.ca-file"):
        connect("tls://127.0.0.1:1", timeout=1)


@pytest.fixture
def certificate(tmp_path):
    """One self-signed certificate for everybody, as environment of a cluster and as settings."""
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl to make a certificate")
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    make = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2"
    subprocess.run(
        [*make.split(), "-subj", "/CN=localhost", "-keyout", key, "-out", cert],
        check=True,
        capture_output=True,
        timeout=30,
    )
    settings = {"ca-file": str(cert)}
    for role in ("client", "worker", "scheduler"):
        settings |= {f"{role}.cert": str(cert), f"{role}.key": str(key)}
    return {f"distributed.comm.tls.{name}": value for name, value in settings.items()}


def _variables(settings):
    """The same as Dask reads it from the environment."""
    return {
        "DASK_" + name.upper().replace(".", "__").replace("-", "_"): value
        for name, value in {**settings, "distributed.comm.require-encryption": "true"}.items()
    }


@pytest.mark.chaos
def test_a_fit_over_tls(undisturbed, tmp_path, certificate):
    with Machines(tmp_path / "machines", **_variables(certificate)) as machines:
        address = machines.start_scheduler()
        assert address.startswith("tls://")
        for name in ("one", "two"):
            machines.start_worker(name)
        with pytest.raises(ClusterError, match="begins with tls://"):
            connect(address.replace("tls://", "tcp://"), timeout=2)
        with dask.config.set(certificate):
            client = connect(address, timeout=10)
            client.wait_for_workers(2, timeout=60)
            result = fit(undisturbed.V, tmp_path / "out", client)
            client.close()
    assert_undisturbed(result, undisturbed)
