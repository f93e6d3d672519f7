"""A step as data, and what a kind of step can do: leaf, combine, finish.

A step is a map-reduce over segments. Every segment gives a list of *parts*; part p of all
segments is reduced by a tree of fixed fan-in in index order; each reduced part is finished,
which stores what is large in the run and returns what is small. Executors know nothing else,
so the loop, the passes and their results exist once.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, TypeVar

from dnmf.config import Resources
from dnmf.errors import OutOfMemoryError, ResumableError, TransientError
from dnmf.linalg.blas import one_thread

__all__ = [
    "Executor",
    "InProcess",
    "Runner",
    "Step",
    "StepOutcome",
    "Work",
    "combine_tree",
    "finish_with_retries",
    "leaf_with_retries",
    "memory_told",
    "tree_levels",
    "with_retries",
]

Part = Any
Value = TypeVar("Value")

PAUSES = (0.1, 0.5, 2.0)
"""Seconds before a leaf or finish that failed for a reason that may pass is tried again."""


@dataclass(frozen=True)
class Step:
    """The unit of commit: some segments, some rows, some models.

    Attributes
    ----------
    index : int
        The record that commits this step; it builds on record ``index - 1``.
    kind : str
        ``"scan"``, ``"race"``, ``"pass"``, ``"transform"`` or ``"publish"``.
    models : tuple of int
        Positions in the plan's models.
    attempt : str
        Names this try in task keys; no result depends on it.
    over : str
        ``"all"`` or the name of a sample.
    residual : tuple of int
        Models whose residuals are computed entry by entry instead of from products (no extra
        read).
    """

    index: int
    kind: str
    models: tuple[int, ...]
    attempt: str = ""
    over: str = "all"
    residual: tuple[int, ...] = ()

    def name(self, kind: str, *where: int | str) -> str:
        """Of an object that this step stores.

        All of them in one folder, whose names the commit makes durable with a single flush.
        """
        return f"{self.index}/{'-'.join([kind, *map(str, where)])}"


class Work(Protocol):
    """One step of one run, ready to execute. Pure: the same call gives the same bits.

    Every method may run in any process that can read V and the run, any number of times.
    A work may have a ``loader`` that decodes a segment; its ``leaf`` then takes the segment as a
    second argument, and an executor may keep it in memory from step to step.
    """

    @property
    def segments(self) -> int:
        """Number of leaves."""
        ...

    @property
    def parts(self) -> int:
        """Number of parts of every leaf; part 0 is small and is finished first."""
        ...

    @property
    def fan_in(self) -> int: ...

    def leaf(self, segment: int) -> list[Part]: ...

    def combine(self, part: int, values: Sequence[Part]) -> Part:
        """Add values of one part in the order given, without changing them."""
        ...

    def finish(self, part: int, reduced: Part, small: Part) -> Any:
        """Store the reduced part; ``small`` is the reduced part 0. Returns JSON."""
        ...


@dataclass(frozen=True)
class StepOutcome:
    """The end of a step that succeeded.

    Attributes
    ----------
    results : list
        What ``Work.finish`` returned, by part.
    retries : int
        How often a part of the step was started again.
    """

    results: list[Any]
    retries: int


class Runner(Protocol):
    """Executes one step."""

    def run_step(self, work: Work, on_leaf: Callable[[int], None]) -> StepOutcome: ...

    def resident(self) -> frozenset[int]:
        """Segments of V that are in memory, so that a pass does not read them."""
        ...


class Executor(Protocol):
    """Runs steps. The result does not depend on which executor, or how many workers."""

    def resources(self) -> Resources:
        """What there is to run on, now."""
        ...

    def resident(self) -> frozenset[int]:
        """Segments of V that are in memory, so that a pass does not read them."""
        ...

    def run_step(self, work: Work, on_leaf: Callable[[int], None]) -> StepOutcome:
        """Execute one step; calls ``on_leaf(segment)`` once per segment as it completes.

        Raises
        ------
        ResumableError
            The cluster is gone; committed steps are safe.
        """
        ...

    def check(self) -> None:
        """Compare versions of packages wherever tasks run (VersionMismatchError)."""
        ...

    def probe(self, path: str) -> None:
        """Try, wherever tasks run, to read V and to write into the run folder (its plan exists).

        Raises
        ------
        InputError, RunError
            It cannot be done; names where and which path.
        """
        ...


def leaf_with_retries(work: Work, segment: int, loaded: Any = None) -> tuple[list[Part], int]:
    """Run a leaf, tried again where a failure may pass; and how often again.

    ``loaded`` is the segment, where the executor kept it in memory.
    """
    if loaded is None:
        return with_retries(lambda: work.leaf(segment))
    keeping: Any = work  # one with a ``loader`` takes what that loaded
    return with_retries(lambda: keeping.leaf(segment, loaded))


def finish_with_retries(
    work: Work, part: int, reduced: Part, small: Part, each: Callable[..., Any] = map
) -> tuple[Any, int]:
    """The same for the end of a part: what it stores has names of its own each time.

    ``each`` is where a work whose ends come in pieces runs them; it says so by ``in_parts``.
    """
    if getattr(work, "in_parts", False):
        parted: Any = work
        return with_retries(lambda: parted.finish(part, reduced, small, each))
    return with_retries(lambda: work.finish(part, reduced, small))


def with_retries(call: Callable[[], Value]) -> tuple[Value, int]:
    """Call, again with growing pauses where a failure may pass; and how often again."""
    with memory_told():
        for attempt, pause in enumerate(PAUSES):
            try:
                return call(), attempt
            except TransientError:
                time.sleep(pause)
        return call(), len(PAUSES)


@contextmanager
def memory_told() -> Iterator[None]:
    """Say in words that the system gave no memory."""
    try:
        yield
    except MemoryError as error:
        what = str(error) or "no details"
        raise OutOfMemoryError(
            f"the fit was interrupted: a task ran out of memory on {platform.node()} ({what}). "
            f"Give each worker more (--memory, ulimit), or fewer threads"
        ) from error


class InProcess:
    """Runs steps in this process, segments in index order: the reference for all executors."""

    def resident(self) -> frozenset[int]:
        """None: every pass reads V."""
        return frozenset()

    def run_step(self, work: Work, on_leaf: Callable[[int], None]) -> StepOutcome:
        """See `Executor.run_step`."""
        try:
            with one_thread():
                return self._run(work, on_leaf)
        except TransientError as error:
            raise ResumableError(
                f"the fit was interrupted: {error}, and again each of {len(PAUSES)} times that it "
                f"was tried once more"
            ) from error

    def _run(self, work: Work, on_leaf: Callable[[int], None]) -> StepOutcome:
        retries = 0

        def combine(nodes: list[list[Part]]) -> list[Part]:
            with memory_told():
                return [work.combine(p, [node[p] for node in nodes]) for p in range(work.parts)]

        with closing(self._map(partial(leaf_with_retries, work), work.segments)) as leaves:

            def leaf(segment: int) -> list[Part]:
                nonlocal retries
                parts, again = next(leaves)
                retries += again
                on_leaf(segment)
                return parts

            reduced = combine_tree(work.fan_in, work.segments, leaf, combine)

        def end(part: int) -> tuple[Any, int]:
            return finish_with_retries(work, part, reduced[part], reduced[0], self.each)

        with closing(self._map(end, work.parts)) as ends:
            results = list(ends)
        retries += sum(again for _, again in results)
        return StepOutcome([result for result, _ in results], retries)

    def each(self, call: Callable[[Any], Value], items: Sequence[Any]) -> Iterable[Value]:
        """``map``, on what threads there are: for the columns of the end of a part."""
        return self._map(lambda index: call(items[index]), len(items))

    def _map(self, call: Callable[[int], Value], count: int) -> Generator[Value, None, None]:
        """``call(0)``, ``call(1)`` and so on, in this order."""
        yield from map(call, range(count))


def tree_levels(leaves: int, fan_in: int) -> list[int]:
    """Number of nodes on every level above the leaves, the last one 1 (empty for one leaf)."""
    levels = []
    while leaves > 1:
        leaves = -(-leaves // fan_in)
        levels.append(leaves)
    return levels


def combine_tree(
    fan_in: int, leaves: int, leaf: Callable[[int], Part], combine: Callable[[list[Part]], Part]
) -> Part:
    """Reduce leaves in index order through the fixed tree, holding few partial sums at once.

    Equal, addition by addition, to reducing level by level: a node is combined as soon as its
    last child is there. Every node is passed through ``combine``, also one with one child.
    """
    open_nodes: list[list[Part]] = [[] for _ in tree_levels(leaves, fan_in)]
    if not open_nodes:
        return leaf(0)
    for index in range(leaves):
        part, last = leaf(index), index == leaves - 1
        for level in open_nodes:
            level.append(part)
            if len(level) < fan_in and not last:
                break
            part = combine(level[:])
            level.clear()
    return part
