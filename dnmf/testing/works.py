"""Steps that say exactly how they were executed: for tests of executors."""

from __future__ import annotations

import os
import uuid
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dnmf.errors import InputError, RunError, TransientError
from dnmf.steps.work import tree_levels

__all__ = ["ERRORS", "Failure", "SumWork", "TreeWork"]

ERRORS: dict[str, type[Exception]] = {
    "transient": TransientError,
    "input": InputError,
    "run": RunError,
    "value": ValueError,
}


@dataclass(frozen=True)
class Failure:
    """A call that fails the first times.

    Attributes
    ----------
    call : str
        ``"leaf-3"``, ``"combine-0"`` or ``"finish-1"``: segment or piece at the end.
    error : str
        A name in `ERRORS`.
    times : int
    """

    call: str
    error: str
    times: int = 1


@dataclass(frozen=True)
class TreeWork:
    """Pieces are texts that show the tree: ``"(0:0 0:1)"`` is the sum of two leaves' piece 0.

    Every call leaves a file in ``folder``, in whichever process it runs.

    Attributes
    ----------
    folder : str
    segments, pieces, fan_in : int
    failures : tuple of Failure
    """

    folder: str
    segments: int
    pieces: int = 1
    fan_in: int = 3
    failures: tuple[Failure, ...] = ()

    def leaf(self, segment: int) -> list[str]:
        self._called(f"leaf-{segment}")
        return [f"{piece}:{segment}" for piece in range(self.pieces)]

    def combine(self, piece: int, parts: Sequence[str]) -> str:
        self._called(f"combine-{piece}")
        return f"({' '.join(parts)})"

    def finish(self, piece: int, reduced: str, small: str) -> list[Any]:
        self._called(f"finish-{piece}")
        return [piece, reduced, small]

    def expected(self) -> list[list[Any]]:
        """What the step's results must be."""
        roots = [self._root(piece) for piece in range(self.pieces)]
        return [[piece, root, roots[0]] for piece, root in enumerate(roots)]

    def _root(self, piece: int) -> str:
        level = [f"{piece}:{segment}" for segment in range(self.segments)]
        for count in tree_levels(self.segments, self.fan_in):
            cuts = [slice(node * self.fan_in, (node + 1) * self.fan_in) for node in range(count)]
            level = [f"({' '.join(level[cut])})" for cut in cuts]
        return level[0]

    def calls(self) -> Counter[str]:
        """How often each call was made, by all processes together."""
        return Counter(name.partition("_")[0] for name in os.listdir(self.folder))

    def _called(self, call: str) -> None:
        before = self.calls()[call] if any(f.call == call for f in self.failures) else 0
        with open(os.path.join(self.folder, f"{call}_{uuid.uuid4().hex}"), "x"):
            pass
        for failure in self.failures:
            if failure.call == call and before < failure.times:
                raise ERRORS[failure.error](f"planned: {call} fails")


@dataclass(frozen=True)
class SumWork:
    """Sums of arrays whose last bits depend on the order of additions."""

    segments: int
    fan_in: int = 3
    pieces: int = 2

    def leaf(self, segment: int) -> list[np.ndarray]:
        rng = np.random.default_rng(segment)
        return [rng.random((3, 50)) * 10.0 ** rng.integers(-8, 8, (3, 50)) for _ in range(2)]

    def combine(self, piece: int, parts: Sequence[np.ndarray]) -> np.ndarray:
        total = parts[0].copy()
        for part in parts[1:]:
            total += part
        return total

    def finish(self, piece: int, reduced: np.ndarray, small: np.ndarray) -> list[str]:
        return [reduced.tobytes().hex(), small.tobytes().hex()]

    def expected(self) -> list[list[str]]:
        """What the step's results must be."""
        level = [self.leaf(segment) for segment in range(self.segments)]
        for count in tree_levels(self.segments, self.fan_in):
            parts = [level[node * self.fan_in : (node + 1) * self.fan_in] for node in range(count)]
            level = [
                [self.combine(p, [part[p] for part in some]) for p in range(2)] for some in parts
            ]
        return [self.finish(piece, level[0][piece], level[0][0]) for piece in range(2)]
