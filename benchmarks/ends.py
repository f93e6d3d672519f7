"""``ends``: whether "converged" is true, and how good the end is beside scikit-learn's."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from statistics import median

from rich.table import Table

from benchmarks import goals
from benchmarks.figures import Figure, number_text
from benchmarks.problems_ends import end_sets
from benchmarks.problems_hard import HardSet
from benchmarks.reads_hard import ABSENT, measured
from benchmarks.reads_hard_figures import Measured, SetResult, beside_peers, ends_of, passes_of
from benchmarks.session import Session
from dnmf.errors import OptionError

__all__ = ["SEEDS", "run"]

SEEDS = {"tiny": 1, "quick": 4, "full": 20}


def run(session: Session, seeds: int | None, only: tuple[str, ...] = ()) -> Iterator[Figure]:
    """Compare the default fit of each seed with the same fit at tol = 1e-9.

    Parameters
    ----------
    seeds : int or None
        None: as many as the size has.
    only : tuple of str
        Parts of the names of sets; none is all.

    Raises
    ------
    OptionError
        No set has such a name.
    """
    sets = end_sets(session.size)
    chosen = [one for one in sets if not only or any(part in one.name for part in only)]
    if not chosen:
        names = "; ".join(one.name for one in sets)
        raise OptionError(f"no set is named like {' or '.join(only)}; there are: {names}")
    results = []
    for result in measured(session, chosen, seeds or SEEDS[session.size], [{}]):
        if isinstance(result, HardSet):
            name = "share of seeds within 0.03%, or not converged"
            yield Figure("ends", result.name, name, None, skipped=ABSENT)
            continue
        results.append(result)
        for figure in _figures(result):
            yield replace(figure, benchmark="ends")
    session.console.print(_overview(results))


def _figures(result: SetResult) -> Iterator[Figure]:
    """Passes until the default rule stops, how true that is, and peers."""
    which = goals.HARD[result.hard.kind]
    (fits,) = result.fits.values()
    yield from passes_of(result.hard.name, fits)
    yield from ends_of(result.hard.name, which, result, fits)


HEAD = (
    "data", "passes", "above, 0.01%", "converged", "true", "cut", "gap, 0.01%", "found all",
    "peer, 0.01%",
)  # fmt: skip


def _overview(results: list[SetResult]) -> Table:
    """A row for each set; of two numbers the first is the median, the second the worst."""
    table = Table(title="default fits against the same at tol = 1e-9, median; worst of the seeds")
    for name in HEAD:
        table.add_column(name, overflow="fold")
    for result in results:
        (fits,) = result.fits.values()
        table.add_row(result.hard.name, *_cells(result, fits))
    return table


def _cells(result: SetResult, fits: list[Measured]) -> list[str]:
    def pair(values: list[float]) -> str:
        return f"{number_text(median(values))}; {number_text(max(values))}"

    def of_all(count: float) -> str:
        return f"{count:.0f}/{len(fits)}"

    found = [fit.found >= result.hard.k for fit in fits if fit.found is not None]
    peers = beside_peers(result, fits) if result.peers else ()
    return [
        pair([fit.passes for fit in fits]),
        pair([round(fit.above, 3) for fit in fits]),
        of_all(sum(fit.converged for fit in fits)),
        of_all(sum(fit.true for fit in fits)),
        of_all(sum(not fit.ended for fit in fits)),
        pair([round(1e4 * (fit.objective / result.best(fit.draw) - 1), 3) for fit in fits]),
        of_all(sum(found)) if found else "",
        "; ".join(f"{value:.3g}" for value in peers),
    ]
