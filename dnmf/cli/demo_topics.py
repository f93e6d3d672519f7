"""Topics of the demo as a table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    from dnmf.cli.demo_corpus import Corpus

__all__ = ["print_topics", "topics"]


def topics(H: Any, W: Any, corpus: Corpus, words: int = 8, objects: int = 3) -> list[list[str]]:
    """List the top words and the most typical objects of every component.

    Parameters
    ----------
    H : (k, terms) array-like
    W : (documents, k) array-like
    corpus : Corpus
    words, objects : int
        How many of each.

    Returns
    -------
    list of [words, objects]
        By component; words separated by commas, objects by line breaks.
    """
    import numpy as np

    return [
        [
            ", ".join(_top(np.asarray(row), corpus.terms, words)),
            "\n".join(_top(column, corpus.documents, objects)),
        ]
        for row, column in zip(np.asarray(H), np.asarray(W).T, strict=True)
    ]


def _top(weights: np.ndarray, names: list[str], count: int) -> list[str]:
    """List the names of the largest weights above 0, ties by position."""
    order = (-weights).argsort(kind="stable")[:count]
    return [names[place] for place in order if weights[place] > 0]


def print_topics(H: Any, W: Any, corpus: Corpus) -> None:
    """Print ``topics`` as a table to stdout."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title="Topics, largest first")
    table.add_column("", justify="right")
    table.add_column("words", ratio=2)
    table.add_column("most typical objects", ratio=3, overflow="fold")
    for number, cells in enumerate(topics(H, W, corpus), start=1):
        table.add_row(str(number), *cells)
    Console(markup=False, highlight=False).print(table)
