"""Waiting for a cluster that may vanish: until it answers, or long enough to say it is gone."""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from concurrent import futures
from typing import Any, TypeVar

from distributed import Client, Future, KilledWorker

from dnmf.errors import ClusterError, ResumableError, TransientError, WorkersDiedError
from dnmf.executors.dask_private import (
    ClosedClientError,
    FutureCancelledError,
    FuturesCancelledError,
    address_of,
    identity,
)

__all__ = [
    "ANSWER",
    "NO_SCHEDULER",
    "NO_WORKERS",
    "PASSING",
    "Watch",
    "answer",
    "called",
    "where",
    "workers_of",
]

ANSWER = 60.0
"""Seconds that a question to the cluster may take."""

NO_SCHEDULER = 20.0
"""Seconds without a connection to the scheduler after which it counts as gone."""

NO_WORKERS = 300.0
"""Seconds without a single worker after which a fit gives up."""

SOON = 2.0
"""Seconds without a worker after which people are told what a fit waits for."""

PASSING = (
    KilledWorker,
    TransientError,
    FutureCancelledError,
    FuturesCancelledError,
    ClosedClientError,
    ClusterError,
    OSError,
)
"""Reasons for which a step may succeed when it is run again."""

Value = TypeVar("Value")


def where(client: Client) -> str:
    """Return the scheduler's address, for messages."""
    return address_of(client) or "its old address"


def answer(client: Client, ask: Callable[[], Value], seconds: float | None = None) -> Value:
    """Call ``ask()``, which asks the scheduler and might wait for ever, and return its answer.

    Parameters
    ----------
    client : distributed.Client
    ask : callable
    seconds : float, optional
        Patience; `ANSWER` by default.

    Raises
    ------
    ClusterError
        No connection, or no answer within ``seconds``.
    """
    asked: futures.Future[Value] = futures.Future()

    def run() -> None:
        try:
            asked.set_result(ask())
        except BaseException as error:
            asked.set_exception(error)

    seconds = ANSWER if seconds is None else seconds
    began = time.monotonic()
    while client.status == "connecting" and time.monotonic() - began < min(seconds, NO_SCHEDULER):
        time.sleep(0.05)
    if client.status != "running":
        raise ClusterError(
            f"no scheduler answers at {where(client)}: the client is {client.status}. Is the "
            f"cluster still running?"
        )
    threading.Thread(target=run, name="dnmf-ask", daemon=True).start()
    try:
        return asked.result(seconds)
    except (OSError, ClosedClientError) as error:  # a TimeoutError too
        why = str(error) or f"nothing within {seconds:.0f} s"
        raise ClusterError(f"the scheduler at {where(client)} does not answer ({why})") from error


def workers_of(client: Client, most: int = -1, seconds: float | None = None) -> dict[str, Any]:
    """Ask the scheduler for its workers, as `answer` does; return what it says of each by address.

    Parameters
    ----------
    client : distributed.Client
    most : int
        Of how many workers; -1 of all.
    seconds : float, optional
        As for `answer`.
    """
    workers: dict[str, Any] = answer(client, lambda: identity(client, most), seconds)["workers"]
    return workers


def called(client: Client) -> dict[str, Any]:
    """Return the workers of a cluster that has none yet, as soon as it has some (`workers_of`).

    A task waits for one meanwhile: that is what lets an adaptive cluster start workers, which it
    stops when it has nothing to do. Every question has the patience of `answer`, for a scheduler
    that goes away meanwhile (``Client.wait_for_workers`` asks it without).

    Raises
    ------
    ClusterError
        None came within `NO_WORKERS` seconds.
    """
    began, told = time.monotonic(), False
    asking = client.submit(bool, key=f"dnmf-call-{uuid.uuid4().hex[:12]}", pure=False)
    try:
        while not (workers := workers_of(client)):
            waited = time.monotonic() - began
            if waited > NO_WORKERS:
                raise ClusterError(
                    f"the cluster at {where(client)} has no workers, and none came within "
                    f"{NO_WORKERS:.0f} s; start some (dask worker {where(client)}) and run this "
                    f"again"
                )
            if waited > SOON and not told:
                told = True
                logging.getLogger("dnmf").warning(
                    "the cluster at %s has no workers; waiting up to %.0f s for the first one",
                    where(client),
                    NO_WORKERS,
                )
            time.sleep(0.1)
    finally:
        asking.release()
    return workers


class Watch:
    """Looks after one step on a cluster, over all its attempts.

    Parameters
    ----------
    client : distributed.Client
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self._address = where(client)  # while there is one
        self._silent: float | None = None
        self._empty: float | None = None

    def ready(self) -> None:
        """Return once the client is connected.

        Raises
        ------
        ResumableError
            The scheduler is gone.
        """
        began = time.monotonic()
        while self._client.status != "running":
            lost = time.monotonic() - began
            if lost > NO_SCHEDULER or self._client.status == "closed":
                raise ResumableError(f"the fit was interrupted: no scheduler at {self._address}")
            time.sleep(0.05)

    def wait(self, waited: Sequence[Future]) -> None:
        """Wait until all futures are done, watching that there are a scheduler and a worker.

        Raises
        ------
        ResumableError
            One of them is gone for too long.
        """
        for future in waited:
            finished = threading.Event()
            future.add_done_callback(lambda _, finished=finished: finished.set())
            while not (finished.wait(1.0) or future.done()):
                self._look()

    def _look(self) -> None:
        self.ready()
        client, now = self._client, time.monotonic()
        try:
            alive = bool(workers_of(client, most=1, seconds=5.0))
        except ClusterError:
            self._silent = self._silent or now
            if now - self._silent > ANSWER:
                raise ResumableError(
                    f"the fit was interrupted: the scheduler at {self._address} has not answered "
                    f"for {ANSWER:.0f} s"
                ) from None
            return
        self._silent = None
        self._empty = None if alive else self._empty or now
        if self._empty is not None and now - self._empty > NO_WORKERS:
            raise ResumableError(
                f"the fit was interrupted: the cluster at {self._address} has had no worker for "
                f"{NO_WORKERS:.0f} s"
            )

    def failed(self, error: BaseException, tries: int) -> ResumableError:
        """Return the error for people after a step failed ``tries`` times."""
        if isinstance(error, KilledWorker):
            deaths = tries * (error.allowed_failures + 1)
            return WorkersDiedError(
                f"the fit was interrupted: {deaths} workers died one after the other, each while "
                f"it ran the same part of a step (the last one was {error.last_worker.address})"
                f"{self._memory(error)}"
            )
        return ResumableError(
            f"the fit was interrupted: a step failed {tries} times, at last with: {error}"
        )

    def _memory(self, error: KilledWorker) -> str:
        """Say what is known of memory: limits, and restarts that nannies made because of it."""
        limit = error.last_worker.memory_limit
        text = f". Its memory limit was {limit / 1e6:,.0f} MB" if limit else ""
        try:
            events = answer(
                self._client, lambda: self._client.get_events("worker-restart-memory"), 5.0
            )
        except ClusterError:
            return text
        sizes = [int(event["rss"]) for _, event in events]
        if not sizes:
            return f"{text}; no nanny restarted a worker because of memory: see the workers' logs"
        return (
            f"{text}; {len(sizes)} times a nanny restarted a worker because of its memory, the "
            f"largest had {max(sizes) / 1e6:,.0f} MB"
        )
