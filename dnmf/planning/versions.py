"""The packages that decide the bits of a result, as installed here and as a run began with."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from importlib import metadata
from typing import Any

from dnmf.errors import VersionMismatchError

__all__ = ["PACKAGES", "check_same", "installed"]

PACKAGES = ("dnmf", "zarr", "numpy", "scipy", "numba")


@lru_cache(maxsize=1)
def installed() -> dict[str, str]:
    """Version by package; looking them up takes longer than a tiny fit, so it is done once."""
    found = {}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:  # dnmf itself, run from a folder
            found[package] = "missing"
    return found


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
