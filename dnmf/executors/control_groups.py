"""Limits of memory by Linux' control groups, as containers and batch systems set them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path, PurePosixPath

__all__ = ["free_memory", "memory_limit"]

GROUPS = Path("/sys/fs/cgroup")
"""Where the groups are."""

OF_THIS = Path("/proc/self/cgroup")
"""Where it stands in which ones this process is, a line for each hierarchy."""

_FILES = {
    "": ("memory.max", "memory.current", "inactive_file"),
    "memory": ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
}
"""Limit, use, and in ``memory.stat`` what of it files could give back; versions 2 and 1."""


def memory_limit() -> int | None:
    """Bytes that the groups of this process allow it at most; None where none has a limit."""
    return min((limit for limit, _ in _limits()), default=None)


def free_memory() -> int:
    """Bytes that this process may still take, on this machine and by its groups."""
    import psutil

    free = int(psutil.virtual_memory().available)
    return min([free, *(max(0, limit - used) for limit, used in _limits())])


def _limits() -> Iterator[tuple[int, int]]:
    """Limit and use of every group with a limit: those that this process is in, up to the root.

    A batch system limits a group below the root; a container has its own one as the root, or sees
    no folder by the name that its group has outside.
    """
    for folder, version in _folders():
        limit, used, cache = _FILES[version]
        with suppress(OSError, ValueError):  # there is none, or no limit ("max")
            found = int((folder / limit).read_text()), int((folder / used).read_text())
            yield found[0], found[1] - _reclaimable(folder, cache)


def _folders() -> Iterator[tuple[Path, str]]:
    """Folders of the groups and their version's name, each once."""
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
    """Bytes of files in the page cache, which a group is charged for and gives back when asked."""
    with suppress(OSError, ValueError):
        for line in (folder / "memory.stat").read_text().splitlines():
            key, _, value = line.partition(" ")
            if key == name:
                return int(value)
    return 0
