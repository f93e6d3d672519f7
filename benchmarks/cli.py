"""The commands: one per benchmark, and two that print what was measured."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TextIO

import click
from rich.console import Console

from benchmarks.figures import Figure
from benchmarks.session import SIZES, Session, collect, working_folder
from dnmf.errors import DnmfError

__all__ = ["cli", "main"]

LOSSES = ("frobenius", "kullback-leibler")
PEERS = ("dense", "sparse", "small")
WIDTH = 140
MISSED = 1


@click.group(
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Example:  python -m benchmarks pass --size quick --json results.jsonl --check",
)
def cli() -> None:
    """Measure dnmf against floors, bounds and peers."""


def benchmark(function: Callable[..., Iterable[Figure]]) -> click.Command:
    """A command that yields figures, with the options that all of them have."""

    @functools.wraps(function)
    def command(
        size: str, json_path: Path | None, check: bool, folder: Path | None, **options: Any
    ) -> None:
        console = Console() if Console().is_terminal else Console(width=WIDTH)
        with working_folder(folder) as home:
            session = Session(size, home, folder is not None, console)
            figures = collect(session, function(session, **options), json_path)
        missed = [figure for figure in figures if figure.met is False]
        if missed:
            console.print(f"{len(missed)} goal(s) missed")
        if check and missed:
            raise SystemExit(MISSED)

    shared = (
        click.option("--size", type=click.Choice(SIZES), default="quick", show_default=True),
        click.option(
            "--json",
            "json_path",
            type=click.Path(dir_okay=False, path_type=Path),
            help="Add a line of JSON per figure to this file.",
        ),
        click.option("--check", is_flag=True, help="Exit with 1 where a goal is missed."),
        click.option(
            "--folder",
            type=click.Path(file_okay=False, path_type=Path),
            help="Where data go, and stay to be used again [default: a temporary folder].",
        ),
    )
    decorated: Any = command
    for option in reversed(shared):
        decorated = option(decorated)
    made: click.Command = cli.command(name=function.__name__.rstrip("_"))(decorated)
    return made


@benchmark
@click.option("--in-memory/--no-in-memory", default=True, show_default=True)
@click.option("--out-of-core/--no-out-of-core", default=True, show_default=True)
def pass_(session: Session, in_memory: bool, out_of_core: bool) -> Iterable[Figure]:
    """One full pass against its floor: in memory, and out of core."""
    from benchmarks import pass_disk, pass_memory

    if in_memory:
        yield from pass_memory.run(session)
    if out_of_core:
        yield from pass_disk.run(session)


@benchmark
def memory(session: Session) -> Iterable[Figure]:
    """Largest resident size of a worker against its limit and the plan."""
    from benchmarks import memory

    yield from memory.run(session)


@benchmark
@click.option("--loss", type=click.Choice(LOSSES), default=LOSSES[0], show_default=True)
@click.option("--seeds", type=click.IntRange(min=1), default=5, show_default=True)
@click.option("--reference", is_flag=True, help="Compute the references and store them instead.")
@click.option(
    "--runs", type=click.IntRange(min=1), default=20, show_default=True, help="With --reference."
)
@click.option("--hard", is_flag=True, help="On faces, sound, air, cells, spectra and traffic.")
@click.option(
    "--option", "options", multiple=True, metavar="KEY=VALUE", help="Of the fits; with --hard."
)
@click.option(
    "--against",
    multiple=True,
    metavar="KEY=VALUE",
    help="Fit with these options too, and show both; with --hard.",
)
@click.option(
    "--only", multiple=True, metavar="TEXT", help="Sets whose name has this; with --hard."
)
@click.option(
    "--picture",
    type=click.Path(dir_okay=False, path_type=Path),
    help="An SVG to write, objective against reads; with --hard.",
)
def reads(
    session: Session, loss: str, seeds: int, reference: bool, runs: int, hard: bool, **of_hard: Any
) -> Iterable[Figure]:
    """How often V is read until the fit is as good as it gets."""
    from benchmarks import reads, reads_kl

    if hard:
        yield from _hard(session, loss, seeds, reference, **of_hard)
        return
    given = [name for name, value in of_hard.items() if value]
    if given:
        raise click.UsageError(f"--{given[0].removesuffix('s')} needs --hard")
    chosen = {"frobenius": reads, "kullback-leibler": reads_kl}[loss]
    if reference:
        chosen.reference(session, runs)
    else:
        yield from chosen.run(session, seeds)


def _hard(
    session: Session,
    loss: str,
    seeds: int,
    reference: bool,
    options: tuple[str, ...],
    against: tuple[str, ...],
    only: tuple[str, ...],
    picture: Path | None,
) -> Iterable[Figure]:
    from benchmarks import reads_hard

    if reference or loss != LOSSES[0]:
        raise click.UsageError(f"--hard is of {LOSSES[0]}, and has no --reference")
    if picture is not None and picture.suffix != ".svg":
        raise click.UsageError(f"--picture is {picture}; it must end in .svg")
    ways = [_fit_options(options), *([_fit_options(against)] if against else [])]
    if len(ways) == 2 and ways[0] == ways[1]:
        raise click.UsageError("--option and --against name the same options")
    yield from reads_hard.run(session, seeds, ways, only, picture)


def _fit_options(texts: tuple[str, ...]) -> dict[str, Any]:
    """Options of a fit from KEY=VALUE, the value JSON or a word."""
    from dnmf.config import OPTIONS

    found: dict[str, Any] = {}
    for text in texts:
        name, sign, value = text.partition("=")
        if not sign or name not in OPTIONS:
            raise click.UsageError(f"{text!r} is not KEY=VALUE of {', '.join(sorted(OPTIONS))}")
        try:
            found[name] = json.loads(value)
        except ValueError:
            found[name] = value
    return found


@benchmark
@click.option(
    "--seeds", type=click.IntRange(min=1), help="[default: 4 at quick size, 20 at full size]"
)
@click.option("--only", multiple=True, metavar="TEXT", help="Sets whose name has this.")
def ends(session: Session, seeds: int | None, only: tuple[str, ...]) -> Iterable[Figure]:
    """Whether "converged" is true: default fits against the same at tol = 1e-9."""
    from benchmarks import ends

    yield from ends.run(session, seeds, only)


@benchmark
@click.option(
    "--only", "kinds", type=click.Choice(PEERS), multiple=True, help="Which [default: all]."
)
@click.option("--seeds", type=click.IntRange(min=1), default=5, show_default=True)
def peers(session: Session, kinds: tuple[str, ...], seeds: int) -> Iterable[Figure]:
    """Wall time to the same objective as other systems."""
    from benchmarks import peers

    yield from peers.run(session, kinds or PEERS, seeds)


@benchmark
def scale(session: Session) -> Iterable[Figure]:
    """10,000 blocks, one and two workers, 100,000 tiny chunks."""
    from benchmarks import scale

    yield from scale.run(session)


@benchmark
def study(session: Session) -> Iterable[Figure]:
    """Many models in the same reads, against the same fits one after the other."""
    from benchmarks import study

    yield from study.run(session)


@benchmark
def start(session: Session) -> Iterable[Figure]:
    """The whole process of `dnmf fit` on 1 MB."""
    from benchmarks import start

    yield from start.run(session)


@cli.command()
@click.argument("file", type=click.File())
def report(file: TextIO) -> None:
    """Print what is in a JSON file as tables in Markdown."""
    from benchmarks.report import markdown

    click.echo(markdown(file.read()))


def main() -> None:
    """Entry point of ``python -m benchmarks``."""
    try:
        cli(prog_name="python -m benchmarks")
    except DnmfError as error:
        click.echo(f"error: {error}", err=True)
        raise SystemExit(error.exit_code) from error
