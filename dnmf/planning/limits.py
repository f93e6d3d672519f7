"""Constants that decide the bits of a result, or its memory, once a run has begun.

A plan keeps them, so that a run goes on with those that it began with, whatever a later release
has. Tests change them by `using`, and so see with little data what takes a lot of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from dnmf.config import MIB
from dnmf.init.nndsvd import NndsvdLimits
from dnmf.losses import LossLimits

__all__ = [
    "Limits",
    "RaceLimits",
    "RoundLimits",
    "SearchLimits",
    "StopLimits",
    "TemperLimits",
    "current",
    "using",
]


@dataclass(frozen=True)
class RaceLimits:
    """Limits of a race: on how much of the sample starts run, and how long.

    Attributes
    ----------
    most_bytes : int
        Most bytes of the rows on which starts race.
    share : float
        Share of the sample on which starts race, where the other limits allow it.
    rows, scarce_rows : int
        Rows per component on which starts race at least, and where these are half of the sample,
        or their loss is dear.
    fewest_rows : int
        Rows on which NNDSVD is computed at least, where rows are so long that ``rows`` per
        component would not fit.
    least_rows : int
        Rows per component that a sample has at least; a smaller one is not used.
    fewest_bytes : int
        Starts race on so many bytes at least.
    dear_entries : int
        Bytes that an entry counts for, zeros too, where it is raised to powers.
    tol : float
        Tolerance at which a start has converged.
    passes : int
        Most passes until a start has converged.
    dear_passes : int
        Most passes of losses whose entries take long to compute on.
    """

    most_bytes: int = 64 * MIB
    share: float = 0.1
    rows: int = 300
    scarce_rows: int = 50
    fewest_rows: int = 20
    least_rows: int = 4
    fewest_bytes: int = 4 * MIB
    dear_entries: int = 16
    tol: float = 1e-3
    passes: int = 40
    dear_passes: int = 20


@dataclass(frozen=True)
class SearchLimits:
    """Limits of a search, in which a start adds components and merges as many.

    Attributes
    ----------
    first_passes : int
        Passes with too many components.
    added_passes : int
        Passes after components were added.
    merged_passes : int
        Passes after as many were merged.
    gain : float
        A cycle that lowers the objective by less, relative to it, is a failure.
    same : float
        A cycle that changes it by less has come back to one solution: the search is over.
    failures : int
        The search is over after so many failures in a row.
    cycles : int
        Most cycles.
    dear_cycles : int
        Most cycles for losses that are no least squares, which what merging costs may mislead.
    """

    first_passes: int = 10
    added_passes: int = 8
    merged_passes: int = 4
    gain: float = 2e-4
    same: float = 5e-5
    failures: int = 2
    cycles: int = 5
    dear_cycles: int = 1


@dataclass(frozen=True)
class TemperLimits:
    """Limits of tempering, in which a start below beta = 1 is cooled, shaken and cooled again.

    Attributes
    ----------
    warmth : float
        Distance of the larger beta from the divergence's own, as a share of the way to 1.
        Three betas in between took twice the passes for the same ends.
    first_passes : int
        Passes at the larger beta from the random start.
    again_passes : int
        Passes at the larger beta after each shake.
    cold_passes : int
        Most passes of the divergence itself after each shake.
    shake : float
        Share of a random start that is mixed in.
    shakes : int
        Most shakes.
    gain : float
        A shake that lowers the objective by less, relative to it, is a failure.
    failures : int
        Failures in a row after which tempering is over.
    """

    warmth: float = 0.4
    first_passes: int = 8
    again_passes: int = 5
    cold_passes: int = 8
    shake: float = 0.5
    shakes: int = 5
    gain: float = 2e-4
    failures: int = 2


@dataclass(frozen=True)
class StopLimits:
    """How passes extrapolate, revive and end.

    Attributes
    ----------
    first_step : float
        The extrapolation that is tried first.
    growth : float
        By which factor the extrapolation grows with every pass that is accepted.
    cap_growth : float
        By which factor the largest extrapolation grows meanwhile.
    revivals : int
        How often a dead component is revived.
    slowest : float
        The largest rate of decreases that is believed.
    telling : float
        Share of the passes, the last ones, whose decreases tell what is still to come; 0: only the
        last two rates tell, as on the sample, whose end is not that of the fit.
    decreases : int
        So many last decreases are kept.
    sample_tol : float
        Tolerance of passes over the sample, unless that of the fit is larger.
    sample_passes : int
        Most passes over the sample.
    least_explained : float
        What is explained counts as this share of the objective at least.
    crawl : float
        In float32, where W H equals V to the rounding of products, an objective that a pass lowers
        by less than this share of itself crawls: the fit stops.
    refusals : int
        A fit stops where rounding hides what rounds predicted, and passes refused so many.
    first_prediction : float
        The first prediction of rounds counts so many times: what they are worth is not known yet.
    slowest_prediction : float
        The slowest rate that predictions are taken to shrink at.
    """

    first_step: float = 0.5
    growth: float = 1.2
    cap_growth: float = 1.05
    revivals: int = 3
    slowest: float = 0.95
    telling: float = 0.34
    decreases: int = 32
    sample_tol: float = 1e-3
    sample_passes: int = 30
    least_explained: float = 0.03
    crawl: float = 0.5
    refusals: int = 2
    first_prediction: float = 3.0
    slowest_prediction: float = 0.9


@dataclass(frozen=True)
class RoundLimits:
    """Rounds on a compressed V between two reads.

    Attributes
    ----------
    most : int
        Most rounds.
    spans : int
        Passes whose W'V the basis spans, besides the H of the pass.
    dearest : float
        The largest price of a round, as a share of a pass with its read, at which there are some.
    widest : float
        The largest share of V's columns that the basis may have: above, a round is no cheaper
        than a pass.
    rounded : float
        Rounds compute in float64 where rounding of products is a larger share of the objective.
    most_bytes : int
        Most bytes of the compressed V, and of W, which one task holds.
    most_unobserved : float
        Largest share of entries that are missing at which there are rounds.
    """

    most: int = 60
    spans: int = 2
    dearest: float = 0.5
    widest: float = 0.7
    rounded: float = 1e-5
    most_bytes: int = 1024 * MIB
    most_unobserved: float = 0.06


@dataclass(frozen=True)
class Limits:
    """Constants that a plan freezes.

    Attributes
    ----------
    sample_segment_bytes : int
        Bytes of the sample that one task goes over, besides what one segment of V has in it.
    h_part_bytes : int
        Bytes of H, float64, in one part of the H-step: enough that a thread is worth its call,
        and within a cache.
    times_used : int
        Steps after the scan leave out columns without entries, where a sparse V has at least so
        many times the columns with entries; 0: never.
    stacked_components : int
        Components that share a product with a sparse block: more rows of H' leave the cache.
    chunk_bytes, batch_chunk_bytes : int
        Bytes (float64) of a chunk of the tall factor in the result, of one model and of all
        models of a batch, which have a file each.
    race : RaceLimits
    nndsvd : NndsvdLimits
    search : SearchLimits
    temper : TemperLimits
    stop : StopLimits
    rounds : RoundLimits
    losses : LossLimits
    """

    sample_segment_bytes: int = 32 * MIB
    h_part_bytes: int = MIB
    times_used: int = 2
    stacked_components: int = 100
    chunk_bytes: int = 16 * MIB
    batch_chunk_bytes: int = 64 * MIB
    race: RaceLimits = field(default_factory=RaceLimits)
    nndsvd: NndsvdLimits = field(default_factory=NndsvdLimits)
    search: SearchLimits = field(default_factory=SearchLimits)
    temper: TemperLimits = field(default_factory=TemperLimits)
    stop: StopLimits = field(default_factory=StopLimits)
    rounds: RoundLimits = field(default_factory=RoundLimits)
    losses: LossLimits = field(default_factory=LossLimits)

    def to_json(self) -> dict[str, Any]:
        """Return the fields, those of a subject in an object of their own."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Limits:
        """Make the limits again that `to_json` wrote."""
        return cls().changed(value)

    def changed(self, value: Mapping[str, Any]) -> Limits:
        """Replace fields; of a subject those that its mapping names."""
        fields = {
            name: replace(getattr(self, name), **new) if isinstance(new, Mapping) else new
            for name, new in value.items()
        }
        return replace(self, **fields)


_current: ContextVar[Limits] = ContextVar("limits", default=Limits())  # noqa: B039 - it is frozen


def current() -> Limits:
    """Return the limits of a run that is planned now."""
    return _current.get()


@contextmanager
def using(**limits: Any) -> Iterator[Limits]:
    """Plan with other limits than the default ones, for tests.

    Parameters
    ----------
    **limits
        Fields of `Limits`; of a subject a mapping, e.g. ``race={"tol": 1e-2}``.
    """
    token = _current.set(_current.get().changed(limits))
    try:
        yield _current.get()
    finally:
        _current.reset(token)
