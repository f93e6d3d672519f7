"""The small sums of a scan, over a block, a segment or all of V."""

from __future__ import annotations

from dataclasses import dataclass, field

from dnmf.runs.base import ObjectRef, Refs
from dnmf.sources.missing import NONE, Missing

__all__ = ["ScanStats"]

SUMMED = (
    *("bytes_read", "nonzeros", "zero_rows", "total", "sumsq", "bad", "missing", "checksums"),
    *("row_sums", "sample", "sample_rows", "sample_bytes", "sample_sumsq", "bad_weights"),
    *("clipped", "unobserved", "own", "sample_own"),
)


@dataclass
class ScanStats:
    """Counts and sums of a scan.

    Attributes
    ----------
    bytes_read, nonzeros, zero_rows : int
    total, sumsq, largest : float
    bad : int
        Entries that are negative, infinite or NaN.
    first_bad : (int, int, float) or None
        Row, column and value of the first one.
    missing : Missing
        Chunks that are not stored.
    checksums : list of int
        Checksum of every block, as stored.
    row_sums : list of ObjectRef
        Sums of the rows of every segment.
    sample : list of tuple of ObjectRef
        Every segment's rows of the sample, where they are stored.
    sample_rows : list of int
        How many those are.
    sample_bytes : int
    sample_sumsq : float
    own, sample_own : float
        Sums of the loss's `own_term`.
    numeric : list of str
        Digests of how tasks round.
    bad_weights, first_bad_weight, largest_weight
        What ``bad``, ``first_bad`` and ``largest`` are of entries.
    clipped : int
        Negative entries that count as 0.
    unobserved : int
        Entries that are missing.
    """

    bytes_read: int = 0
    nonzeros: int = 0
    zero_rows: int = 0
    total: float = 0.0
    sumsq: float = 0.0
    largest: float = 0.0
    bad: int = 0
    first_bad: tuple[int, int, float] | None = None
    missing: Missing = NONE
    checksums: list[int] = field(default_factory=list)
    row_sums: list[ObjectRef] = field(default_factory=list)
    sample: list[Refs] = field(default_factory=list)
    sample_rows: list[int] = field(default_factory=list)
    sample_bytes: int = 0
    sample_sumsq: float = 0.0
    numeric: list[str] = field(default_factory=list)
    bad_weights: int = 0
    first_bad_weight: tuple[int, int, float] | None = None
    largest_weight: float = 0.0
    clipped: int = 0
    unobserved: int = 0
    own: float = 0.0
    sample_own: float = 0.0

    def add(self, other: ScanStats) -> None:
        """Add what stands behind in index order."""
        for name in SUMMED:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.largest = max(self.largest, other.largest)
        self.largest_weight = max(self.largest_weight, other.largest_weight)
        self.first_bad = self.first_bad or other.first_bad
        self.first_bad_weight = self.first_bad_weight or other.first_bad_weight
        self.numeric = sorted({*self.numeric, *other.numeric})
