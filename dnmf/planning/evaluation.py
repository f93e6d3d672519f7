"""How lazy data are computed for a run in one process: how often, and where they go."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from dnmf.planning.memory import MemoryNeed
from dnmf.values import format_bytes

__all__ = ["Evaluation", "with_evaluations"]


@dataclass(frozen=True)
class Evaluation:
    """The evaluation of a lazy V, or of lazy weights.

    Attributes
    ----------
    name : str
        ``"V"`` or ``"weights"``.
    where : str
        ``"memory"`` or ``"disk"``.
    nbytes : int
        Of the matrix as it is there.
    times : int
        How often a chunk is computed, at most.
    shared : int
        Tasks that all rows of chunks need; each is computed once.
    peak : int
        Predicted bytes of the process while chunks are computed, without those that the array's
        own tasks take inside.
    """

    name: str
    where: str
    nbytes: int
    times: int
    shared: int
    peak: int

    @property
    def in_memory(self) -> int:
        """Bytes in memory during the run."""
        return self.nbytes if self.where == "memory" else 0

    def __str__(self) -> str:
        how_often = "once" if self.times == 1 else f"{self.times} times"
        there = "kept in memory" if self.where == "memory" else "staged on disk"
        text = f"{self.name}: computed {how_often}, {there} ({format_bytes(self.nbytes)})"
        if self.shared:
            text += f"; {self.shared} task(s) that all chunks need are computed once"
            text += ", and before" if self.times > 1 else ""
        return text


def with_evaluations(need: MemoryNeed, evaluations: Sequence[Evaluation]) -> MemoryNeed:
    """Return the memory of a process that also computes lazy data, before the run or for it."""
    during = need.total + sum(one.in_memory for one in evaluations)
    peaks, there = [during], 0
    for one in evaluations:  # one after the other
        peaks.append(there + one.peak)
        there += one.in_memory
    return replace(need, total=max(peaks))
