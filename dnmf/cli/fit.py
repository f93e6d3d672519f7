"""``dnmf fit``: factorize a matrix."""

from __future__ import annotations

import time
from typing import Any

import click

from dnmf.cli.cluster import ClusterOptions
from dnmf.cli.options import (
    cluster_options,
    debug_option,
    k_option,
    options,
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
@k_option
@click.option(
    "--out", required=True, metavar="PATH", help="Folder of the run, which becomes the result."
)
@seed_option("Seed of the random starts; the sample of rows does not depend on it.")
@options("tol", "max_passes", "max_time", "rounds", "dtype", "block_size", "missing_chunks")
@loss_options
@start_options
@options("strict_bits")
@overwrite
@cluster_options
@debug_option
def command(v: str, out: str, cluster: ClusterOptions, **given: Any) -> None:
    """Factorize the matrix V (n x d) into W (n x k) times H (k x d).

    V is the path or URL of a Zarr array, of a CSR matrix in Zarr as AnnData writes it
    (path/to/store.zarr/X), of a matrix in an HDF5 file (cells.h5ad, cells.h5ad/layers/counts,
    scan.nc/flux), or of a .npy file. A fit that is interrupted can go on: see dnmf
    resume. Defaults fit most data; dnmf plan shows what would run.
    """
    import dnmf
    from dnmf.cli.interrupt import resumable
    from dnmf.cli.progress import listener
    from dnmf.cli.report import summary
    from dnmf.sources import open_source

    open_source(v)  # a wrong path need not wait for a cluster
    began = time.monotonic()
    with resumable(out, cluster.arguments()), cluster.running() as where, listener() as listen:
        given = {name: value for name, value in given.items() if value is not None}
        if "fixed_H" in given:
            given["fixed_H"] = read_rows(given["fixed_H"], given.get("missing_chunks"))
        result = dnmf.fit(v, out=out, **where, on_event=listen, **given)
    click.echo(f"\n{summary(result, out, time.monotonic() - began)}")
