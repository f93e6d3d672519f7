"""What ``reads --hard`` says of a set: its figures, and a row of the overview."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from rich.table import Table

from benchmarks import goals
from benchmarks.courses import Course, first_below
from benchmarks.figures import Figure, Goal, number_text
from benchmarks.problems_hard import HardSet

__all__ = [
    "DEFAULT",
    "Measured",
    "SetResult",
    "beside_peers",
    "ends_of",
    "figures_of",
    "overview",
    "passes_of",
]

NEAR, NEARER = 1.001, 1.000001
PARTS = 1e4
"""Shares are told in hundredths of a percent."""

TRUE_END = 3.0
"""So far above its end a fit may say that it has converged, in hundredths of a percent."""

UNIT = "x 0.01%"
DEFAULT = "default"
"""How fits without options of their own are called."""


@dataclass(frozen=True)
class Measured:
    """Two fits of one seed.

    Attributes
    ----------
    draw : int
        Of the generator.
    tight : Course
        Of the fit at tol = 1e-9.
    ended : bool
        Whether that fit ended by itself, before max_passes: else its end is where it was cut off.
    stopped : float
        Reads until the default rule stopped.
    objective : float
        Where the default rule stopped.
    sentence : str
        Why, in its words.
    found : int or None
        Planted components that it has.
    passes : int
        Over V, by the default rule; they read nothing where the sample is all of V.
    """

    draw: int
    tight: Course
    ended: bool
    stopped: float
    objective: float
    sentence: str
    found: int | None
    passes: int = 0

    @property
    def near(self) -> float:
        """Reads until within 0.1% of the end."""
        return first_below(self.tight, NEAR * self.tight.end)

    @property
    def nearer(self) -> float:
        """Reads until within 0.0001% of the end."""
        return first_below(self.tight, NEARER * self.tight.end)

    @property
    def above(self) -> float:
        """How far above the end the default rule stopped."""
        return PARTS * (self.objective / self.tight.end - 1)

    @property
    def converged(self) -> bool:
        """Whether the default rule says that nothing is left."""
        return self.sentence.startswith(("converged", "exact"))

    @property
    def true(self) -> bool:
        """Whether the default ended where it should, or does not say that it did."""
        return self.above <= TRUE_END or not self.converged


@dataclass(frozen=True)
class SetResult:
    """All fits of a set.

    Attributes
    ----------
    hard : HardSet
    fits : dict of str to list of Measured
        By the options of the fits; goals hold for the first ones.
    peers : list of (int, Course)
        scikit-learn's, each with its draw.
    """

    hard: HardSet
    fits: dict[str, list[Measured]]
    peers: list[tuple[int, Course]]

    def best(self, draw: int) -> float:
        """The lowest objective of this draw, by whomever."""
        fits = [fit for found in self.fits.values() for fit in found if fit.draw == draw]
        values = [min(fit.tight.end, fit.objective) for fit in fits]
        return min([*values, *(course.end for own, course in self.peers if own == draw)])

    def peers_best(self, draw: int) -> float:
        """The lowest objective of scikit-learn's starts."""
        return min(course.end for own, course in self.peers if own == draw)


def figures_of(result: SetResult) -> Iterator[Figure]:
    """Median and worst of everything."""
    for index, (label, fits) in enumerate(result.fits.items()):
        case = (
            f"{result.hard.name}, {label}"
            if label != DEFAULT or len(result.fits) > 1
            else result.hard.name
        )
        which = goals.HARD[result.hard.kind] if index == 0 else goals.HardGoals()
        yield from _reads(case, which, fits)
        yield from ends_of(case, which, result, fits)


def _pair(
    case: str, name: str, values: Sequence[float], bounds: Sequence[Goal | None], unit: str = ""
) -> Iterator[Figure]:
    """The median and the worst of the seeds."""
    details = {"by_seed": [value if math.isfinite(value) else str(value) for value in values]}
    both = (("median", median(values)), ("worst", max(values)))
    for (which, value), goal in zip(both, bounds, strict=True):
        yield Figure("reads", case, f"{name}, {which}", value, unit, goal=goal, details=details)


def _reads(case: str, which: goals.HardGoals, fits: list[Measured]) -> Iterator[Figure]:
    name = "reads until within {} of the end at tol = 1e-9"
    yield from _pair(case, name.format("0.1%"), [fit.near for fit in fits], which.near)
    yield from _pair(case, name.format("0.0001%"), [fit.nearer for fit in fits], which.nearer)
    stopped = [fit.stopped for fit in fits]
    yield from _pair(case, "reads until the default rule stops", stopped, which.stopped)


def passes_of(case: str, fits: list[Measured]) -> Iterator[Figure]:
    """Passes over V until the default rule stops."""
    passes = [fit.passes for fit in fits]
    yield from _pair(case, "passes until the default rule stops", passes, (None, None))


def ends_of(
    case: str, which: goals.HardGoals, result: SetResult, fits: list[Measured]
) -> Iterator[Figure]:
    """How true the ends are, how good, and beside scikit-learn's where it took part."""
    name, none = "above the end at tol = 1e-9 where the default rule stops", (None, None)
    yield from _pair(case, name, [fit.above for fit in fits], none, UNIT)
    details: dict[str, Any] = {"sentences": [fit.sentence for fit in fits]}
    cut = sum(not fit.ended for fit in fits)
    for name, count, goal in (
        ("seeds that say converged", sum(fit.converged for fit in fits), None),
        ("share of seeds within 0.03%, or not converged", _share(fits, "true"), which.true),
        ("seeds cut off before tol = 1e-9 was met", cut, None),
    ):
        yield Figure("reads", case, name, count, goal=goal, details=details)
    gaps = [PARTS * (fit.tight.end / result.best(fit.draw) - 1) for fit in fits]
    yield from _pair(case, "gap of the end at tol = 1e-9 to the best known", gaps, none, UNIT)
    found = [fit.found for fit in fits if fit.found is not None]
    if found:
        details = {"by_seed": found, "k": result.hard.k}
        all_of_them = sum(number >= result.hard.k for number in found) / len(found)
        yield Figure("reads", case, "planted components found, fewest", min(found), details=details)
        name = "share of seeds that find all planted components"
        yield Figure("reads", case, name, all_of_them, goal=which.found, details=details)
    if result.peers:
        yield from _beside_peers(case, which, result, fits)


def _share(fits: list[Measured], name: str) -> float:
    return sum(getattr(fit, name) for fit in fits) / len(fits)


def beside_peers(result: SetResult, fits: list[Measured]) -> tuple[float, float]:
    """Best and median default objective above scikit-learn's best, in hundredths of a percent.

    Of several draws the one that does worst counts for the best.
    """
    above: dict[int, list[float]] = {}
    for fit in fits:
        share = PARTS * (fit.objective / result.peers_best(fit.draw) - 1)
        above.setdefault(fit.draw, []).append(share)
    best = max(min(values) for values in above.values())
    return best, median(value for values in above.values() for value in values)


def _beside_peers(
    case: str, which: goals.HardGoals, result: SetResult, fits: list[Measured]
) -> Iterator[Figure]:
    best, middle = beside_peers(result, fits)
    details = {
        "objectives": [fit.objective for fit in fits],
        "scikit_learn": [course.end for _, course in result.peers],
        "scikit_learn_iterations": result.peers[0][1].stopped / 2,
    }
    for name, value in (("best", best), ("median", middle)):
        text = f"{name} default objective above scikit-learn's best of as many starts"
        yield Figure("reads", case, text, value, UNIT, goal=which.peers, details=details)


HEAD = (
    "data", "options", "0.1%", "0.0001%", "stops", "above, 0.01%", "converged", "true", "cut",
    "gap, 0.01%", "found all", "peer, 0.01%",
)  # fmt: skip


def overview(results: list[SetResult]) -> Table:
    """A row for each set and way; of two numbers the first is the median, the second the worst."""
    table = Table(title="reads on hard data, median; worst of the seeds")
    for name in HEAD:
        table.add_column(name, overflow="fold")
    for result in results:
        for label, fits in result.fits.items():
            table.add_row(result.hard.name, label, *_cells(result, fits))
    return table


def _cells(result: SetResult, fits: list[Measured]) -> list[str]:
    def pair(values: list[float]) -> str:
        return f"{number_text(median(values))}; {number_text(max(values))}"

    def of_all(count: float) -> str:
        return f"{count:.0f}/{len(fits)}"

    k = result.hard.k
    found = [fit.found >= k for fit in fits if fit.found is not None]
    peers = beside_peers(result, fits) if result.peers else ()
    return [
        pair([fit.near for fit in fits]),
        pair([fit.nearer for fit in fits]),
        pair([fit.stopped for fit in fits]),
        pair([round(fit.above, 3) for fit in fits]),
        of_all(sum(fit.converged for fit in fits)),
        of_all(sum(fit.true for fit in fits)),
        of_all(sum(not fit.ended for fit in fits)),
        pair([round(PARTS * (fit.tight.end / result.best(fit.draw) - 1), 3) for fit in fits]),
        of_all(sum(found)) if found else "",
        "; ".join(f"{value:.3g}" for value in peers),
    ]
