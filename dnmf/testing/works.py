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
from dnmf.steps.tree import tree_levels
from dnmf.steps.work import Each, Work

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
        ``"leaf-3"``, ``"combine-0"`` or ``"finish-1"``: segment or part at the end.
    error : str
        A name in `ERRORS`.
    times : int
    """

    call: str
    error: str
    times: int = 1


@dataclass(frozen=True)
class TreeWork(Work):
    """A work whose parts are texts of the tree: ``"(0:0 0:1)"`` is the sum of two leaves' part 0.

    Every call leaves a file in ``folder``, in whichever process it runs.

    Attributes
    ----------
    folder : str
    segments, parts, fan_in : int
    failures : tuple of Failure
    """

    folder: str
    segments: int
    parts: int = 1
    fan_in: int = 3
    failures: tuple[Failure, ...] = ()

    def leaf(self, segment: int, loaded: Any = None) -> list[str]:
        self._called(f"leaf-{segment}")
        return [f"{part}:{segment}" for part in range(self.parts)]

    def combine(self, part: int, values: Sequence[str]) -> str:
        self._called(f"combine-{part}")
        return f"({' '.join(values)})"

    def finish(self, part: int, reduced: str, small: str, each: Each = map) -> list[Any]:
        self._called(f"finish-{part}")
        return [part, reduced, small]

    def expected(self) -> list[list[Any]]:
        """Return what the step's results must be."""
        roots = [self._root(part) for part in range(self.parts)]
        return [[part, root, roots[0]] for part, root in enumerate(roots)]

    def _root(self, part: int) -> str:
        level = [f"{part}:{segment}" for segment in range(self.segments)]
        for count in tree_levels(self.segments, self.fan_in):
            cuts = [slice(node * self.fan_in, (node + 1) * self.fan_in) for node in range(count)]
            level = [f"({' '.join(level[cut])})" for cut in cuts]
        return level[0]

    def calls(self) -> Counter[str]:
        """Return how often each call was made, by all processes together."""
        return Counter(name.partition("_")[0] for name in os.listdir(self.folder))

    def _called(self, call: str) -> None:
        before = self.calls()[call] if any(f.call == call for f in self.failures) else 0
        with open(os.path.join(self.folder, f"{call}_{uuid.uuid4().hex}"), "x"):
            pass
        for failure in self.failures:
            if failure.call == call and before < failure.times:
                raise ERRORS[failure.error](f"planned: {call} fails")


@dataclass(frozen=True)
class SumWork(Work):
    """A work that sums arrays whose last bits depend on the order of additions."""

    segments: int
    fan_in: int = 3
    parts: int = 2

    def leaf(self, segment: int, loaded: Any = None) -> list[np.ndarray]:
        rng = np.random.default_rng(segment)
        return [rng.random((3, 50)) * 10.0 ** rng.integers(-8, 8, (3, 50)) for _ in range(2)]

    def combine(self, part: int, values: Sequence[np.ndarray]) -> np.ndarray:
        total = values[0].copy()
        for value in values[1:]:
            total += value
        return total

    def finish(
        self, part: int, reduced: np.ndarray, small: np.ndarray, each: Each = map
    ) -> list[str]:
        return [reduced.tobytes().hex(), small.tobytes().hex()]

    def expected(self) -> list[list[str]]:
        """Return what the step's results must be."""
        level = [self.leaf(segment) for segment in range(self.segments)]
        for count in tree_levels(self.segments, self.fan_in):
            nodes = [level[node * self.fan_in : (node + 1) * self.fan_in] for node in range(count)]
            level = [
                [self.combine(p, [one[p] for one in some]) for p in range(2)] for some in nodes
            ]
        return [self.finish(part, level[0][part], level[0][0]) for part in range(2)]
