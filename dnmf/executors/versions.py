"""The same packages on client, scheduler and workers, or a sentence that says where not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from distributed import Client

from dnmf.errors import VersionMismatchError
from dnmf.executors.watch import answer
from dnmf.planning.versions import PACKAGES

__all__ = ["compare_versions", "package_versions"]

MOST_NAMED = 10


def package_versions(packages: tuple[str, ...] = PACKAGES) -> dict[str, str]:
    """Versions of Python (major and minor) and of packages, ``"missing"`` where there is none."""
    found: dict[str, str] = _probe()(packages)
    return found


_PROBE = """
def probe(packages):
    import sys
    from importlib import metadata
    found = {"python": "%d.%d" % sys.version_info[:2]}
    for package in packages:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "missing"
    return found
"""


def _probe() -> Callable[[tuple[str, ...]], dict[str, str]]:
    """A function that travels by value: it must run where dnmf is not installed."""
    scope: dict[str, Any] = {"__name__": "__main__"}
    exec(_PROBE, scope)
    probe: Callable[[tuple[str, ...]], dict[str, str]] = scope["probe"]
    return probe


def compare_versions(client: Client) -> None:
    """Compare the packages that decide the bits of a result.

    Raises
    ------
    VersionMismatchError
        Every package that is missing or differs, with where.
    ClusterError
        The cluster does not answer.
    """
    probe = _probe()
    scheduler = answer(client, lambda: client.run_on_scheduler(probe, PACKAGES))
    workers = answer(client, lambda: client.run(probe, PACKAGES, on_error="return"))
    here = package_versions()
    wrong = []
    for where, versions in [("scheduler", scheduler), *workers.items()]:
        if isinstance(versions, OSError):
            continue  # a worker that has left
        if isinstance(versions, BaseException):
            wrong.append(f"worker {where} cannot say what it has ({versions!r})")
            continue
        place = "the scheduler" if where == "scheduler" else f"worker {where}"
        wrong += [
            f"{package} is {versions[package]} on {place}, {here[package]} here"
            for package in here
            if versions[package] != here[package]
        ]
    if wrong:
        more = f"; and {len(wrong) - MOST_NAMED} more" if len(wrong) > MOST_NAMED else ""
        raise VersionMismatchError(
            f"{'; '.join(wrong[:MOST_NAMED])}{more}. Install the same versions everywhere"
        )
