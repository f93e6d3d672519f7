"""``dnmf transform``: W of new rows."""

from __future__ import annotations

import click

from dnmf.cli.cluster import ClusterOptions
from dnmf.cli.options import cluster_options, debug_option, options, overwrite
from dnmf.config import OPTIONS

__all__ = ["command"]

EPILOG = """\b
Example:
  dnmf transform new.zarr topics.zarr --out new-W.zarr"""


@click.command(epilog=EPILOG)
@click.argument("v", metavar="V")
@click.argument("result", metavar="RESULT")
@click.option("--out", required=True, metavar="PATH", help="Zarr group to write, with the array W.")
@click.option("--weights", metavar="PATH", help=OPTIONS["weights"].metadata["help"])
@options("missing_chunks")
@overwrite
@cluster_options
@debug_option
def command(
    v: str,
    result: str,
    out: str,
    weights: str | None,
    missing_chunks: str | None,
    overwrite: bool,
    cluster: ClusterOptions,
) -> None:
    """Compute W for the rows of the matrix V with the H of the fit in folder RESULT.

    V has the columns of the fitted matrix and any number of rows. W is computed with the loss and
    the penalties of the fit, in one read of V.
    """
    import dnmf
    from dnmf.cli.interrupt import resumable
    from dnmf.cli.progress import listener

    fit = dnmf.open(result)
    with resumable(out, cluster.arguments()), cluster.running() as where, listener() as listen:
        given = {"weights": weights, "overwrite": overwrite, "missing_chunks": missing_chunks}
        W = dnmf.transform(v, fit, out=out, **where, **given, on_event=listen)
    click.echo(f"W is {W.shape[0]} x {W.shape[1]} {W.dtype} in {out}")
    click.echo(f"\n    import zarr\n    W = zarr.open_group({out!r}, mode='r')['W']")
