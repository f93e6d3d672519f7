"""``dnmf study``: models of many sizes and seeds in the same reads, and what they say of k."""

from __future__ import annotations

import json
import shlex
import time
from typing import TYPE_CHECKING, Any

import click

from dnmf.cli.cluster import ClusterOptions
from dnmf.cli.options import cluster_options, debug_option, option, options, overwrite
from dnmf.cli.options_loss import loss_options
from dnmf.cli.text import columns, seconds_text
from dnmf.values import format_bytes

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
    "--ks",
    type=_Numbers(),
    required=True,
    metavar="LIST",
    help="Numbers of components: 2:20 (2 to 20), 2:20:3 (every third), 5,10,15.",
)
@click.option(
    "--seeds",
    type=click.IntRange(min=1),
    metavar="N",
    default=5,
    show_default=True,
    help="Fits of every k, each from another random start.",
)
@click.option("--out", metavar="PATH", help="Folder of the study; needed unless --plan.")
@click.option(
    "--holdout",
    type=click.Choice(["bicv", "speckled", "none"]),
    default="bicv",
    show_default=True,
    help="What further fits leave out, to measure the error of every k on it: a part of the rows "
    "and of the columns (bicv), a tenth of the entries (speckled), or nothing.",
)
@click.option(
    "--folds",
    type=click.IntRange(min=2),
    metavar="N",
    default=5,
    show_default=True,
    help="Such fits of every k, each of which leaves out another part.",
)
@options("tol")
@option("max_passes", "Most passes over V of each fit")
@options("max_time", "dtype", "block_size")
@loss_options
@option("n_init", "Random starts of each fit that are compared on the sample, besides --seeds")
@click.option("--plan", "only_plan", is_flag=True, help="Show what would run, and run nothing.")
@overwrite
@cluster_options
@debug_option
def command(
    v: str, out: str | None, only_plan: bool, holdout: str, cluster: ClusterOptions, **given: Any
) -> None:
    """Find how many components V supports: fit it with every k in --ks, several times each.

    All these fits share every read of V. Further fits leave out a part of V; their errors on that
    part, and how alike the fits of each k are, make the recommendation, which comes with its
    reasons. dnmf resume goes on with a study that was interrupted, dnmf report draws it.
    """
    import dnmf

    given = {name: value for name, value in given.items() if value is not None}
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
    """Write a table by k, what was read, and the recommendation."""
    held_out = study.held_out
    errors = dict(zip(held_out.ks, held_out.mean, strict=True)) if held_out else {}
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
    """Write the summary, or the models' lines where the study runs still."""
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
    """Write all there is to know besides the factors, for ``inspect --json``."""
    facts = {name: value for name, value in study.facts.items() if name != "format"}
    return json.dumps({"path": study.path, "done": study.done, **facts}, indent=2)
