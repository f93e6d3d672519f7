"""A run from its creation to its result, however it ends."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from dnmf.errors import (
    DnmfError,
    OutOfMemoryError,
    ResumableError,
    RunError,
    StorageError,
    WorkersDiedError,
)
from dnmf.fitting.data.context import Context
from dnmf.fitting.loop import run
from dnmf.fitting.probe import probe
from dnmf.fitting.summary import finish_publication
from dnmf.planning.memory import predict_memory
from dnmf.runs.base import RunStore
from dnmf.runs.files import storage_failed
from dnmf.runs.folder import FolderStore
from dnmf.runs.layout import resume_command
from dnmf.steps.events import Listener
from dnmf.steps.work import Executor

__all__ = ["discard_if_invalid", "resumable_storage", "run_in_folder"]


def run_in_folder(
    context: Context, executor: Executor, listen: Listener, max_time: float | None
) -> None:
    """Run to the end, or as far as it goes, and publish the result in the run folder.

    Raises
    ------
    ResumableError
        With how to go on.
    """
    store = context.store
    assert store.path is not None
    with _say_how_to_go_on(context, executor.resources().threads):
        probe(executor, store.path)
        record = run(context, executor, listen, max_time)
        finish_publication(context, record)


@contextmanager
def discard_if_invalid(store: FolderStore) -> Iterator[None]:
    """Delete a run that this process made, if it fails before it commits anything."""
    try:
        yield
    except DnmfError as error:
        if store.latest() is None and not isinstance(error, ResumableError):
            store.discard()
        raise


@contextmanager
def resumable_storage(store: RunStore) -> Iterator[None]:
    """Raise a `StorageError` for failures of storage, once there is a record to resume from."""
    try:
        yield
    except RunError as error:
        if not storage_failed(error) or not _begun(store):
            raise
        raise StorageError(str(error)) from error.__cause__  # whose text says how to go on


def _begun(store: RunStore) -> bool:
    try:
        return store.latest() is not None
    except DnmfError:  # the storage cannot even be read: what was told first stays
        return False


@contextmanager
def _say_how_to_go_on(context: Context, threads: int) -> Iterator[None]:
    path = context.store.path
    assert path is not None
    try:
        yield
    except ResumableError as error:
        need = ""
        if isinstance(error, (WorkersDiedError, OutOfMemoryError)):
            size = predict_memory(context.plan, threads).total
            need = f". By the plan a worker needs {size / 1e6:,.0f} MB"
        raise type(error)(
            f"{error}{need}. All committed passes are safe in {path}; go on with: "
            f"{resume_command(path)}"
        ) from error
