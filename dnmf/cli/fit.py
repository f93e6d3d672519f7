"""``dnmf fit``: factorize a matrix."""

from __future__ import annotations

import time
from typing import Any

import click

from dnmf.cli.cluster import ClusterOptions
from dnmf.cli.options import (
    DURATION,
    cluster_options,
    debug_option,
    layout_options,
    max_passes_option,
    overwrite,
    seed_option,
)
from dnmf.cli.options_loss import loss_options, read_rows, start_options

__all__ = ["command"]

EPILOG = """\b
Examples:
  dnmf fit counts.zarr -k 20 --out topics.zarr
  dnmf fit cells.zarr/X -k 30 --out cells-k30.zarr --workers 4 --memory 2GiB
  dnmf fit s3://bucket/V.zarr -k 50 --out /shared/V-k50.zarr --scheduler tcp://host:8786"""


@click.command(epilog=EPILOG)
@click.argument("v", metavar="V")
@layout_options
@click.option("--out", required=True, metavar="PATH", help="Where the run and its result live.")
@seed_option("Of the random starts (the rows of the sample are the same for every seed).")
@click.option(
    "--tol",
    type=click.FloatRange(min=0),
    help="Stop when this part of the objective is the most still to be gained [default: 1e-4].",
)
@max_passes_option("Most reads of V after the scan")
@click.option("--max-time", type=DURATION, help="No pass starts after: 90, 15min, 2h.")
@click.option(
    "--missing-chunks",
    type=click.Choice(["auto", "fill", "error"]),
    default="auto",
    show_default=True,
    help="What a chunk that is not stored means.",
)
@loss_options
@start_options
@click.option("--strict-bits", is_flag=True, help="Refuse workers that would round differently.")
@overwrite
@cluster_options
@debug_option
def command(v: str, out: str, cluster: ClusterOptions, **options: Any) -> None:
    """Factorize the matrix at path or URL V: find W (n x k) and H (k x d) with V = W H.

    V is a Zarr array, a CSR matrix in Zarr as AnnData writes it (path/to/store.zarr/X), or a
    .npy file. The run in --out survives interruptions; the same folder ends as the result.
    """
    import dnmf
    from dnmf.cli.interrupt import resumable
    from dnmf.cli.progress import listener
    from dnmf.cli.report import summary
    from dnmf.sources import open_source

    open_source(v)  # a wrong path need not wait for a cluster
    began = time.monotonic()
    with resumable(out, cluster.arguments()), cluster.running() as where, listener() as listen:
        given = {name: value for name, value in options.items() if value is not None}
        if "fixed_H" in given:
            given["fixed_H"] = read_rows(given["fixed_H"])
        result = dnmf.fit(v, out=out, **where, on_event=listen, **given)
    click.echo(f"\n{summary(result, out, time.monotonic() - began)}")
