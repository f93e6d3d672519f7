"""``dnmf.api.convert``: a conversion on whatever there is to run on."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from dnmf.conversion.job import Converted
from dnmf.conversion.job import convert as run_conversion
from dnmf.executors.choose import choose_executor
from dnmf.steps.events import Listener
from dnmf.steps.work import Executor
from dnmf.values import parse_bytes

__all__ = ["convert"]


def convert(
    source: Any,
    target: str | os.PathLike[str],
    *,
    to: str | None = None,
    chunks: int | Sequence[int] | None = None,
    dtype: Any = None,
    memory: int | str | None = None,
    client: Any = None,
    overwrite: bool = False,
    executor: Executor | None = None,
    on_event: Listener | None = None,
) -> Converted:
    """Write a matrix as Zarr with other chunks, another layout or another type.

    Parameters
    ----------
    source : path, URL, array or Source
        What `dnmf.fit` takes, or a ``.npz``, ``.mtx`` or ``.mtx.gz`` file.
    target : path or URL
        The Zarr store to write.
    to : {"dense", "csr"}, optional
        Layout to write; by default that of the source.
    chunks : int or (int, int), optional
        Rows and columns of a chunk (of CSR: its number of entries); by default some that a fit
        reads well.
    dtype : dtype, optional
        Type of the entries; by default that of the source.
    memory : int or str, optional
        What one worker process may use, such as ``"2GiB"``.
    client : distributed.Client, optional
        By default the active client if there is one, else this process works.
    overwrite : bool
        Replace ``target``.
    executor : Executor, optional
        Instead of ``client``, as for `dnmf.fit`.
    on_event : callable, optional
        Called with each event, as for `dnmf.fit`.

    Returns
    -------
    Converted
        What was written, and how much was read for it.
    """
    return run_conversion(
        source,
        target,
        to=to,
        chunks=chunks,
        dtype=dtype,
        memory=None if memory is None else parse_bytes(memory, "memory"),
        executor=choose_executor(client, executor),
        overwrite=overwrite,
        on_event=on_event,
    )
