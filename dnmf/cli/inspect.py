"""``dnmf inspect``: what a run holds."""

from __future__ import annotations

import json
import shlex
from typing import TYPE_CHECKING, Any

import click

from dnmf.cli.options import debug_option

if TYPE_CHECKING:
    from dnmf.results.result import Result

__all__ = ["command"]

EPILOG = """\b
Examples:
  dnmf inspect topics.zarr
  dnmf inspect topics.zarr --json"""


@click.command(epilog=EPILOG)
@click.argument("run", metavar="RUN")
@click.option("--json", "as_json", is_flag=True, help="Print everything that is known, as JSON.")
@debug_option
def command(run: str, as_json: bool) -> None:
    """Show the options, data, history and state of the run in folder RUN, finished or not.

    --json also lists which process worked on what.
    """
    import dnmf

    result = dnmf.open(run)
    if isinstance(result, dnmf.Study):
        from dnmf.cli.study import study_json, study_lines

        click.echo(study_json(result) if as_json else study_lines(result, run))
    elif as_json:
        click.echo(json.dumps(result.inspect(), indent=2))
    else:
        click.echo(_for_people(result, run))


def _for_people(result: Result, path: str) -> str:
    from dnmf.cli.report import history_table, quality
    from dnmf.cli.text import columns

    details = result.details
    lines = [
        ("run", path),
        ("state", _state(result, path)),
        ("data", details.get("source") or details.get("plan", {}).get("description", "unknown")),
        ("matrix", _matrix(result)),
        *([("options", _options(result.config))] if _is_fit(result) else []),
        *quality(result),
        ("executed", _executed(details.get("executed", []))),
    ]
    lines += [("damaged", sentence) for sentence in details.get("damaged", [])]
    table = history_table(result.history) if result.history else "no pass is committed yet"
    return f"{columns(lines)}\n\n{table}"


def _state(result: Result, path: str) -> str:
    if result.done:
        return f"done: {result.stop_reason}"
    worker = result.details.get("worked_on_by")
    if worker:
        return f"running: {worker}"
    return f"interrupted; go on with: dnmf resume {shlex.quote(path)}"


def _is_fit(result: Result) -> bool:
    """Return whether it has a seed and a rule to stop, as a transform has not."""
    details = result.details
    return (details.get("mode") or details.get("plan", {}).get("mode")) != "transform"


def _matrix(result: Result) -> str:
    shape = result.shape
    if shape is None and "layout" in result.details:  # of a transform, which holds no H
        rows, columns = result.details["layout"]["shape"]
        shape = (columns, rows) if result.details.get("axis") == "columns" else (rows, columns)
    size = f"{shape[0]:,} x {shape[1]:,}, " if shape else ""
    return f"{size}k = {result.n_components}"


def _options(config: dict[str, Any]) -> str:
    """Show the options that a person would ask for first; --json has all."""
    seeds = ", ".join(str(model["seed"]) for model in config["models"])
    return f"seed = {seeds}, tol = {config['tol']:g}, max_passes = {config['max_passes']}"


def _executed(entries: list[list[Any]]) -> str:
    """Tell how many steps ran, and by how many processes: more than one after a resume."""
    processes = {(host, pid, attempt) for _, _, host, pid, attempt in entries}
    return f"{len(entries)} step(s) by {len(processes)} process(es)"
