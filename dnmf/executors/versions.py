"""The same packages on client, scheduler and workers, or a sentence that says where not."""

from __future__ import annotations

from importlib import metadata

from distributed import Client

from dnmf.errors import ClusterError, VersionMismatchError

__all__ = ["PACKAGES", "compare_versions", "package_versions"]

PACKAGES = ("dnmf", "zarr", "numpy", "scipy", "numba")


def package_versions(packages: tuple[str, ...] = PACKAGES) -> dict[str, str]:
    """Installed versions, ``"missing"`` where there is none."""
    found = {}
    for package in packages:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "missing"
    return found


_PROBE = """
def probe(packages):
    from importlib import metadata
    found = {}
    for package in packages:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "missing"
    return found
"""


def compare_versions(client: Client) -> None:
    """Compare the packages that decide the bits of a result.

    The probe is sent by value: it must run where dnmf is not installed.

    Raises
    ------
    VersionMismatchError
        Every package that is missing or differs, with where.
    ClusterError
        The cluster does not answer.
    """
    scope: dict[str, object] = {"__name__": "__main__"}
    exec(_PROBE, scope)
    probe = scope["probe"]
    try:
        scheduler = client.run_on_scheduler(probe, PACKAGES)
        workers = client.run(probe, PACKAGES)
    except (OSError, TimeoutError) as error:
        raise ClusterError(f"the cluster does not answer: {error}") from error
    here = package_versions()
    wrong = []
    for where, versions in [("scheduler", scheduler), *workers.items()]:
        wrong += [
            f"{package} is {versions[package]} on {where}, {here[package]} here"
            for package in PACKAGES
            if versions[package] != here[package]
        ]
    if wrong:
        more = f"; and {len(wrong) - 10} more" if len(wrong) > 10 else ""
        raise VersionMismatchError(
            f"{'; '.join(wrong[:10])}{more}. Install the same versions everywhere"
        )
