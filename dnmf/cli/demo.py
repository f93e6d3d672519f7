"""``dnmf demo``: see it work, on real text or at any size."""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dnmf.cli.cluster import ClusterOptions
from dnmf.cli.options import SIZE, debug_option, local_options, option, seed_option
from dnmf.errors import OptionError, OutputExistsError

if TYPE_CHECKING:
    from dnmf.cli.demo_planted import Planted
    from dnmf.steps.events import Listener

__all__ = ["command"]

EPILOG = """\b
Examples:
  dnmf demo
  dnmf demo --large 8GB --memory 1GB --workers 2"""

TOPICS, COMPONENTS, COLUMNS = 16, 20, 2000
BLOCK_SIZE = 128 * 1024
"""Of the docstrings, which fit into one block: so small that every worker gets some."""


@click.command(epilog=EPILOG)
@click.option(
    "--folder",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for the data and the result [default: a new temporary one].",
)
@click.option(
    "--large", type=SIZE, help="Generate and factorize a dense matrix of this size instead: 8GB."
)
@click.option(
    "--columns",
    type=click.IntRange(min=1),
    metavar="N",
    help=f"Columns of the generated matrix [default: {COLUMNS}].",
)
@click.option(
    "-k",
    type=click.IntRange(min=1),
    metavar="N",
    help=f"Number of components [default: {TOPICS}; with --large {COMPONENTS}].",
)
@seed_option("Seed of the random starts, and of the generated matrix.")
@option("max_passes")
@local_options
@debug_option
def command(
    folder: Path | None,
    large: int | None,
    columns: int | None,
    k: int | None,
    seed: int,
    max_passes: int | None,
    cluster: ClusterOptions,
) -> None:
    """Factorize the docstrings of Python's standard library and print their topics.

    With --large, generate a matrix of any size with known factors instead, and factorize it with
    no more than --memory for each worker. Data and result stay in the folder.
    """
    if large is None and columns is not None:
        raise OptionError("--columns belongs to --large; the docstrings have the columns they have")
    with _folder_for(folder) as home:
        if large is None:
            _topics(home, cluster, k=k or TOPICS, seed=seed, max_passes=max_passes)
        else:
            from dnmf.cli.demo_planted import Planted

            parts = (large, columns or COLUMNS, k or COMPONENTS, seed)
            _large(Planted(str(home / "V.zarr"), *parts), home / "fit.zarr", cluster, max_passes)


@contextmanager
def _folder_for(folder: Path | None) -> Iterator[Path]:
    """Make the folder to work in; it stays unless the demo was refused before it wrote anything."""
    home = Path(tempfile.mkdtemp(prefix="dnmf-demo-")) if folder is None else folder
    existed = folder is not None and home.exists()
    home.mkdir(parents=True, exist_ok=True)
    click.echo(f"folder  {home}")
    try:
        yield home
    finally:
        if not existed and not any(home.iterdir()):
            home.rmdir()


def _topics(folder: Path, cluster: ClusterOptions, **options: int | None) -> None:
    import dnmf
    from dnmf.cli import demo_corpus
    from dnmf.cli.demo_topics import print_topics
    from dnmf.cli.interrupt import resumable
    from dnmf.cli.progress import listener
    from dnmf.cli.report import summary

    store, out = folder / "docstrings.zarr", str(folder / "topics.zarr")
    if store.exists():
        raise OutputExistsError(f"{store} exists; delete it or name another --folder")
    began = time.monotonic()
    root = demo_corpus.standard_library()
    corpus = demo_corpus.vectorize(list(demo_corpus.docstrings(root)))
    demo_corpus.store(corpus, store)
    click.echo(f"read {len(corpus.documents)} docstrings, {len(corpus.terms)} words from {root}\n")
    with resumable(out, cluster.arguments()), cluster.running() as where, listener() as listen:
        result = dnmf.fit(
            str(store / "X"),
            out=out,
            **where,
            block_size=BLOCK_SIZE,
            on_event=listen,
            **options,
        )
    click.echo()
    print_topics(result.H, result.W, corpus)
    click.echo(f"\n{summary(result, out, time.monotonic() - began)}")


def _large(planted: Planted, out: Path, cluster: ClusterOptions, max_passes: int | None) -> None:
    import dnmf
    from dnmf.cli.interrupt import resumable
    from dnmf.cli.memory_use import Peaks
    from dnmf.cli.progress import listener
    from dnmf.cli.report import summary
    from dnmf.cli.text import columns

    planted.check_disk()
    began = time.monotonic()
    path, arguments = str(out), cluster.arguments()
    with resumable(path, arguments), cluster.running() as where, listener() as listen:
        client = where.get("client")
        peaks = Peaks(client)
        error = _generate(planted, client, listen)
        result = dnmf.fit(
            planted.path,
            planted.k,
            out=path,
            **where,
            seed=planted.seed,
            max_passes=max_passes,
            on_event=listen,
        )
        lines = [
            ("planted error", f"{error:.5g} (what noise of +-10% leaves of the true factors)"),
            *peaks.lines(cluster.memory),
        ]
    click.echo(f"\n{columns(lines)}\n{summary(result, path, time.monotonic() - began)}")


def _generate(planted: Planted, client: Any, listen: Listener) -> float:
    """Write V and return the relative error that the planted factors leave."""
    from dnmf.cli.demo_planted import generate
    from dnmf.steps.events import Progress

    squares = residual = 0.0
    for done, (part, rest) in enumerate(generate(planted, client), start=1):
        squares, residual = squares + part, residual + rest
        listen(Progress("generate", 0, done, planted.chunks, 0, 0))
    click.echo(f"generated {planted.rows} x {planted.columns} float32 in {planted.path}\n")
    return math.sqrt(residual / squares) if squares else 0.0
