"""Limits of memory by Linux' control groups, as containers and batch systems set them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path, PurePosixPath

__all__ = ["free_memory", "memory_limit"]

GROUPS = Path("/sys/fs/cgroup")
"""The folder of all groups."""

OF_THIS = Path("/proc/self/cgroup")
"""The file that names the groups of this process, one line for each hierarchy."""

_FILES = {
    "": ("memory.max", "memory.current", "inactive_file"),
    "memory": ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
}
"""Files with the limit and the use, and the line of ``memory.stat`` that says what of the use files
could give back; for version 2 and version 1."""


def memory_limit() -> int | None:
    """Return how many bytes the groups of this process allow it; None without a limit."""
    return min((limit for limit, _ in _limits()), default=None)


def free_memory() -> int:
    """Return how many bytes this process may still take, on this machine and by its groups."""
    import psutil

    free = int(psutil.virtual_memory().available)
    return min([free, *(max(0, limit - used) for limit, used in _limits())])


def _limits() -> Iterator[tuple[int, int]]:
    """Yield limit and use of every group with a limit that this process is in, up to the root.

    A batch system limits a group below the root; a container has its own one as the root, or sees
    no folder by the name that its group has outside.
    """
    for folder, version in _folders():
        limit, used, cache = _FILES[version]
        with suppress(OSError, ValueError):  # there is none, or no limit ("max")
            found = int((folder / limit).read_text()), int((folder / used).read_text())
            yield found[0], found[1] - _reclaimable(folder, cache)


def _folders() -> Iterator[tuple[Path, str]]:
    """Yield the folders of the groups and the names of their versions, each once."""
    places = {"": {PurePosixPath("/")}, "memory": {PurePosixPath("/")}}
    with suppress(OSError, ValueError):
        for line in OF_THIS.read_text().splitlines():
            _, kinds, path = line.split(":", 2)
            version = "memory" if "memory" in kinds.split(",") else kinds
            if version in places:
                group = PurePosixPath(path)
                places[version] |= {group, *group.parents}
    for version, groups in places.items():
        for group in sorted(groups):
            yield GROUPS / version / group.relative_to("/"), version


def _reclaimable(folder: Path, name: str) -> int:
    """Return the bytes of files in the page cache, which count as used and are given back."""
    with suppress(OSError, ValueError):
        for line in (folder / "memory.stat").read_text().splitlines():
            key, _, value = line.partition(" ")
            if key == name:
                return int(value)
    return 0
