"""The packages that decide the bits of a result: here, wherever tasks run, and as a run began."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from dnmf.errors import VersionMismatchError
from dnmf.steps.by_value import by_value
from dnmf.steps.work import Executor

__all__ = ["PACKAGES", "check_same", "compare_versions", "installed", "package_versions"]

PACKAGES = ("dnmf", "zarr", "numpy", "scipy", "numba")

MOST_NAMED = 10


def package_versions(packages: tuple[str, ...]) -> dict[str, str]:
    """Return versions of Python (major and minor) and of packages; ``"missing"`` without one.

    It uses nothing of this module, since it is sent to where dnmf may be missing (`by_value`).
    """
    import sys
    from importlib import metadata

    found = {"python": "{}.{}".format(*sys.version_info[:2])}
    for package in packages:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:  # dnmf itself too, where it is run from a folder
            found[package] = "missing"
    return found


@lru_cache(maxsize=1)
def _here() -> dict[str, str]:
    """Return the versions in this process, looked up once: that takes longer than a tiny fit."""
    return package_versions(PACKAGES)


def installed() -> dict[str, str]:
    """Return the version of every package here."""
    return {package: _here()[package] for package in PACKAGES}


def compare_versions(executor: Executor) -> None:
    """Compare the packages that decide the bits of a result wherever tasks run.

    Raises
    ------
    VersionMismatchError
        Every package that is missing or differs, with where.
    ClusterError
        The cluster does not answer.
    """
    wrong: list[str] = []
    found = executor.everywhere(by_value(package_versions), PACKAGES, scheduler=True)
    for address, versions in found.items():
        here = _here()
        where = "the scheduler" if address == "scheduler" else f"worker {address}"
        if isinstance(versions, BaseException):
            wrong.append(f"{where} cannot say what it has ({versions!r})")
            continue
        wrong += [
            f"{package} is {versions[package]} on {where}, {here[package]} here"
            for package in here
            if versions[package] != here[package]
        ]
    if wrong:
        more = f"; and {len(wrong) - MOST_NAMED} more" if len(wrong) > MOST_NAMED else ""
        raise VersionMismatchError(
            f"{'; '.join(wrong[:MOST_NAMED])}{more}. Install the same versions everywhere"
        )


def check_same(path: str, plan: Mapping[str, Any]) -> None:
    """Compare what is installed with what the run at ``path`` was begun with.

    Raises
    ------
    VersionMismatchError
        With what differs.
    """
    then, now = plan.get("versions") or {}, installed()
    differ = [name for name in PACKAGES if name in then and then[name] != now[name]]
    if differ:
        what = ", ".join(f"{name} {then[name]} (here: {now[name]})" for name in differ)
        wanted = " ".join(f"{name}=={then[name]}" for name in differ)
        raise VersionMismatchError(
            f"{path} was begun with {what}, so its passes would not go on with the same bits. "
            f"Install {wanted} to resume it, or start again with overwrite"
        )
