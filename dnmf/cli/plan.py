"""``dnmf plan``: what a fit would do, and what would be refused."""

from __future__ import annotations

import json
from typing import Any

import click

from dnmf.cli.cluster import ClusterOptions
from dnmf.cli.options import cluster_options, debug_option, k_option, options
from dnmf.cli.options_loss import loss_options, read_rows, start_options
from dnmf.cli.text import columns

__all__ = ["command"]

EPILOG = """\b
Examples:
  dnmf plan counts.zarr -k 20
  dnmf plan counts.zarr -k 20 --loss kullback-leibler
  dnmf plan counts.zarr -k 20 --workers 4 --memory 2GiB --json"""


@click.command(epilog=EPILOG)
@click.argument("v", metavar="V")
@k_option
@options("dtype", "block_size", "missing_chunks")
@loss_options
@start_options
@click.option("--json", "as_json", is_flag=True, help="Print the plan as JSON.")
@cluster_options
@debug_option
def command(v: str, as_json: bool, cluster: ClusterOptions, **given: Any) -> None:
    """Show how dnmf fit would read V, and the memory that each worker would need.

    Nothing is fitted and no entry of V is read. What dnmf fit would refuse for want of memory is
    refused here, with the same message.
    """
    import dnmf

    given = {name: value for name, value in given.items() if value is not None}
    if "fixed_H" in given:
        given["fixed_H"] = read_rows(given["fixed_H"], given.get("missing_chunks"))
    with cluster.offered() as where:
        plan = dnmf.plan(v, given.pop("k"), **where, **given)
    click.echo(json.dumps(plan.to_json(), indent=2) if as_json else columns(plan.lines()))
