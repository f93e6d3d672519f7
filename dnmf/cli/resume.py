"""``dnmf resume``: go on with an interrupted fit."""

from __future__ import annotations

import time

import click

from dnmf.cli.cluster import ClusterOptions
from dnmf.cli.options import cluster_options, debug_option, option

__all__ = ["command"]

EPILOG = """\b
Example:
  dnmf resume topics.zarr --workers 2"""


@click.command(epilog=EPILOG)
@click.argument("run", metavar="RUN")
@option("max_time")
@cluster_options
@debug_option
def command(run: str, max_time: float | None, cluster: ClusterOptions) -> None:
    """Go on with the fit, study or transform in folder RUN that was interrupted.

    It goes on after the last pass that was stored, on this or another cluster, and the result is
    bit for bit that of a run without the interruption. A finished run is left as it is.
    """
    import dnmf
    from dnmf.cli.interrupt import resumable
    from dnmf.cli.progress import listener
    from dnmf.cli.report import summary

    began = time.monotonic()
    result = dnmf.open(run)
    study = isinstance(result, dnmf.Study)
    if result.done:
        click.echo("this fit is finished; nothing to do")
    else:
        with resumable(run, cluster.arguments()), cluster.running() as where, listener() as listen:
            result = dnmf.resume(run, **where, max_time=max_time, on_event=listen)
    seconds = time.monotonic() - began
    if study:
        from dnmf.cli.study import study_summary

        click.echo(f"\n{study_summary(result, run, seconds)}")
    else:
        click.echo(f"\n{summary(result, run, seconds)}")
