"""Where a run lives: its plan, objects and records, behind the `RunStore` protocol.

A new kind is one module, one line in `STORES` and one contract test.
"""

from __future__ import annotations

from dnmf.runs.base import ObjectRef, RunStore

__all__ = ["STORES", "ObjectRef", "RunStore"]

STORES: dict[str, str] = {
    "folder": "dnmf.runs.folder:FolderStore",
    "memory": "dnmf.runs.memory:MemoryStore",
}
"""Every kind of store and its class."""
