"""``dnmf convert``: rechunk a matrix, or bring it into Zarr."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from dnmf.cli.cluster import ClusterOptions
from dnmf.cli.options import debug_option, local_options, option, overwrite
from dnmf.values import format_bytes

if TYPE_CHECKING:
    from dnmf.conversion.job import Converted

__all__ = ["command"]

EPILOG = """\b
Examples:
  dnmf convert tall-chunks.zarr V.zarr --chunks 1000,5000
  dnmf convert counts.mtx counts.zarr --to csr --memory 2GiB
  dnmf convert V.npy V.zarr --dtype float32"""


class _Chunks(click.ParamType):
    """Rows and columns of a chunk: 1000,5000."""

    name = "rows,columns"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, ...]:
        try:
            chunks = tuple(int(part) for part in str(value).split(","))
        except ValueError:
            chunks = ()
        if len(chunks) not in (1, 2) or min(chunks) < 1:
            self.fail(f"{value!r}; give rows and columns of a chunk, as in 1000,5000", param, ctx)
        return chunks


@click.command(epilog=EPILOG)
@click.argument("source", metavar="IN")
@click.argument("target", metavar="OUT")
@click.option(
    "--to",
    type=click.Choice(["dense", "csr"]),
    help="Whether OUT is a dense array or a CSR matrix [default: as IN].",
)
@click.option(
    "--chunks",
    type=_Chunks(),
    help="Shape of the chunks of OUT: 1000,5000; for CSR their number of entries.",
)
@click.option(
    "--dtype", metavar="TYPE", help="Type of the entries of OUT: float32 [default: as IN]."
)
@option("missing_chunks")
@overwrite
@local_options
@debug_option
def command(source: str, target: str, cluster: ClusterOptions, **options: Any) -> None:
    """Copy the matrix IN to the Zarr store OUT with other chunks, layout or type.

    IN is a Zarr array, a CSR matrix in Zarr, or a .npy, .npz (scipy) or Matrix Market file. The
    copy is made in parallel and keeps to the memory limit.
    """
    from dnmf.cli.progress import listener
    from dnmf.conversion.job import convert

    with cluster.running() as where, listener() as listen:
        done = convert(source, target, memory=cluster.memory, on_event=listen, **where, **options)
    click.echo(_summary(done))


def _summary(done: Converted) -> str:
    """Say what was written, in a line."""
    rows, columns = done.shape
    size = f"{rows:,} x {columns:,} {done.dtype}, {format_bytes(done.bytes_written)}"
    if done.entries is None:
        return f"wrote {done.path}: dense {size}, chunks {' x '.join(map(str, done.chunks))}"
    return f"wrote {done.path}: CSR {size}, {done.entries:,} entries"
