"""What a text names: an object of a module, a file, a URL."""

from __future__ import annotations

import os
from importlib import import_module
from typing import Any

__all__ = ["is_url", "load", "local_name"]

_LOCAL = ("file://", "local://")


def load(name: str) -> Any:
    """Import what ``"module:object"`` names, as registries do."""
    module, _, attribute = name.partition(":")
    return getattr(import_module(module), attribute)


def is_url(text: str) -> bool:
    """Return whether fsspec, not the local file system, resolves a text; so Zarr takes ``::``."""
    return ("://" in text or "::" in text) and not text.startswith(_LOCAL)


def local_name(path: str | os.PathLike[str]) -> str:
    """Return a path as the system takes it: without ``file://``, and with ``~`` replaced."""
    text = os.fspath(path)
    for scheme in _LOCAL:
        text = text.removeprefix(scheme)
    return os.path.expanduser(text)
