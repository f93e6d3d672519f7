"""News of leaves that are done: Dask's events, which may be lost, for whoever shows progress."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any
from weakref import WeakKeyDictionary

from distributed import Client

from dnmf.executors.dask_private import ClosedClientError

__all__ = ["TOPIC", "LeafNews", "listening"]

TOPIC = "dnmf-leaf"

_lock = threading.Lock()
_listeners: WeakKeyDictionary[Client, dict[str, Callable[[int], None]]] = WeakKeyDictionary()


class LeafNews:
    """Calls ``on_leaf`` once per segment, even for those that are heard of twice or never.

    An error that ``on_leaf`` raises on a thread where nobody would see it, is raised at the end.

    Parameters
    ----------
    on_leaf : callable
    segments : int
    """

    def __init__(self, on_leaf: Callable[[int], None], segments: int) -> None:
        self._on_leaf = on_leaf
        self._missing = set(range(segments))
        self._raised: BaseException | None = None
        self._lock = threading.Lock()

    def tell(self, segment: int) -> None:
        """Tell that a leaf is done; may be called from any thread."""
        with self._lock:
            if segment not in self._missing or self._raised is not None:
                return
            self._missing.discard(segment)
            try:
                self._on_leaf(segment)
            except BaseException as error:
                self._raised = error

    def complete(self) -> None:
        """Tell the leaves that nothing was heard of, now that all are done.

        Raises
        ------
        Exception
            The first one that ``on_leaf`` raised.
        """
        for segment in sorted(self._missing):
            self.tell(segment)
        if self._raised is not None:
            raise self._raised


@contextmanager
def listening(client: Client, name: str, tell: Callable[[int], None]) -> Iterator[None]:
    """Listen for leaves of the attempt ``name``; several fits may listen on one client."""

    def hear(event: tuple[float, Any]) -> None:
        message = event[1]
        told = _listeners.get(client, {}).get(message["name"])
        if told is not None:
            told(message["segment"])

    with _lock:
        _listeners.setdefault(client, {})[name] = tell
        client.subscribe_topic(TOPIC, hear)
    try:
        yield
    finally:
        with _lock:
            _listeners[client].pop(name, None)
            if not _listeners[client]:
                with suppress(OSError, ValueError, ClosedClientError):  # gone, so is this
                    client.unsubscribe_topic(TOPIC)
