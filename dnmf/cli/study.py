"""``dnmf study``: models of many sizes and seeds in the same reads, and what they say of k."""

from __future__ import annotations

import json
import shlex
import time
from typing import TYPE_CHECKING, Any

import click

from dnmf.cli.cluster import ClusterOptions
from dnmf.cli.options import (
    DURATION,
    cluster_options,
    debug_option,
    max_passes_option,
    overwrite,
    type_options,
)
from dnmf.cli.options_loss import loss_options
from dnmf.cli.text import columns, seconds_text
from dnmf.config import format_bytes

if TYPE_CHECKING:
    from dnmf.study.study import Study

__all__ = ["command", "study_json", "study_lines", "study_summary"]

EPILOG = """\b
Examples:
  dnmf study counts.zarr --ks 2:20 --seeds 5 --out study.zarr
  dnmf study counts.zarr --ks 5,10,15 --loss kullback-leibler --out study.zarr
  dnmf study counts.zarr --ks 2:20 --plan
  dnmf report study.zarr -o report.html"""

MOST = 10_000


class _Numbers(click.ParamType):
    """Whole numbers: 8, 2:20 (both ends), 2:20:3, 5,10,15."""

    name = "numbers"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> list[int]:
        found: list[int] = []
        try:
            for part in str(value).split(","):
                ends = [int(x) for x in part.split(":")]
                if len(ends) > 3 or (len(ends) == 3 and ends[2] < 1):
                    raise ValueError
                step = ends[2] if len(ends) == 3 else 1
                span = range(ends[0], ends[-1 if len(ends) < 3 else 1] + 1, step)
                if not 0 < len(span) <= MOST:
                    raise ValueError
                found += span
        except ValueError:
            self.fail(f"{value!r} are no numbers; give as in 8, 2:20, 2:20:3 or 5,10,15")
        return found


@click.command(epilog=EPILOG)
@click.argument("v", metavar="V")
@click.option(
    "--ks", type=_Numbers(), required=True, metavar="LIST", help="Numbers of components: 2:20."
)
@click.option(
    "--seeds",
    type=click.IntRange(min=1),
    metavar="N",
    default=5,
    show_default=True,
    help="Runs of every k.",
)
@click.option("--out", metavar="PATH", help="Where the study lives; needed unless --plan.")
@click.option(
    "--holdout",
    type=click.Choice(["bicv", "speckled", "none"]),
    default="bicv",
    show_default=True,
    help="Leave out rows and columns, or single entries, to measure the error of every k.",
)
@click.option(
    "--folds",
    type=click.IntRange(min=2),
    metavar="N",
    default=5,
    show_default=True,
    help="Parts that rows and columns are cut into; a further model each, of every k.",
)
@type_options
@click.option("--tol", type=click.FloatRange(min=0), help="As for fit [default: 1e-4].")
@max_passes_option("Most passes of each model")
@click.option("--max-time", type=DURATION, help="No pass starts after: 90, 15min, 2h.")
@loss_options
@click.option(
    "--n-init",
    type=click.IntRange(min=1),
    metavar="N",
    help="Random starts of each model that race on the sample, besides --seeds [default: 1].",
)
@click.option("--plan", "only_plan", is_flag=True, help="Show what would run, and stop.")
@overwrite
@cluster_options
@debug_option
def command(
    v: str, out: str | None, only_plan: bool, holdout: str, cluster: ClusterOptions, **options: Any
) -> None:
    """Fit V with every number of components in --ks, --seeds times, in the same reads of V.

    Further models leave out a part of the rows and columns, so that their error there says how
    many components V supports. The answer comes with its reasons. `dnmf resume` goes on with a
    study that was interrupted, `dnmf report` draws it.
    """
    import dnmf

    given = {name: value for name, value in options.items() if value is not None}
    given["holdout"] = None if holdout == "none" else holdout
    if only_plan:
        given.pop("overwrite")
        with cluster.offered() as where:
            planned = dnmf.plan_many(v, given.pop("ks"), given.pop("seeds"), **where, **given)
        click.echo(columns(planned.lines()))
        return
    if out is None:
        raise click.UsageError("give --out, where the study is to live (or --plan)")
    from dnmf.cli.interrupt import resumable
    from dnmf.cli.progress import listener

    began = time.monotonic()
    with resumable(out, cluster.arguments()), cluster.running() as where, listener() as listen:
        study = dnmf.fit_many(v, out=out, **where, on_event=listen, **given)
    click.echo(f"\n{study_summary(study, out, time.monotonic() - began)}")


def study_summary(study: Study, path: str, seconds: float | None = None) -> str:
    """A table by k, what was read, and the recommendation."""
    held = study.held_out
    errors = dict(zip(held.ks, held.mean, strict=True)) if held else {}
    head = ("k", "objective", "held-out error", "stability", "solutions", "passes")
    rows = [head]
    for k in study.ks:
        best, s = study.result(k), study.stability(k)
        passes = [line["passes"] for line in study.models if line["k"] == k]
        rows.append(
            (
                str(k),
                f"{best.objective:.6g}",
                f"{errors[k]:.5g}" if k in errors else "-",
                f"{s.mean:.3f}" if s.runs > 1 else "-",
                f"{s.solutions} of {s.runs}",
                f"{min(passes)} to {max(passes)}",
            )
        )
    lines = [("models", str(len(study.models)))]
    if study.reads is not None:
        read = format_bytes(study.facts["bytes_read"])
        lines.append(("bytes read", f"{read} ({study.reads:.3g} reads of V)"))
    if seconds is not None:
        lines.append(("time", seconds_text(seconds)))
    lines.append(("study", path))
    table = columns(rows, right=frozenset(range(6)))
    hint = f"    dnmf report {shlex.quote(path)} -o report.html"
    return f"{table}\n\n{columns(lines)}\n\n{study.recommend()}\n\n{hint}"


def study_lines(study: Study, path: str) -> str:
    """State, and the models' lines where it runs still."""
    if study.done:
        return study_summary(study, path)
    head = ("k", "seed", "fold", "passes", "objective", "")
    rows = [head] + [
        (
            str(line["k"]),
            str(line["seed"]),
            "-" if line["fold"] is None else str(line["fold"]),
            str(line["passes"]),
            "-" if line["objective"] is None else f"{line['objective']:.6g}",
            line["stop_reason"] or "active",
        )
        for line in study.models
    ]
    table = columns(rows, right=frozenset(range(5)))
    return f"{table}\n\nin progress or interrupted; go on with: dnmf resume {shlex.quote(path)}"


def study_json(study: Study) -> str:
    """All there is to know besides the factors, for ``inspect --json``."""
    facts = {name: value for name, value in study.facts.items() if name != "format"}
    return json.dumps({"path": study.path, "done": study.done, **facts}, indent=2)
