"""A step as data, what a kind of step does (a `Work`), and what runs it (an `Executor`).

A step is a map-reduce over segments. Every leaf returns a list of *parts*. Part p of all leaves is
reduced by a tree of fixed fan-in in index order. Each reduced part is finished: what is large is
stored in the run, what is small is returned. Executors know nothing else of a fit, so that the
loop, the passes and their results are written once.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, TypeVar

from dnmf.config import Resources

__all__ = [
    "Each",
    "Executor",
    "Needs",
    "Part",
    "SegmentLoader",
    "Step",
    "StepOutcome",
    "Work",
]

Part = Any
Item = TypeVar("Item")
Value = TypeVar("Value")


@dataclass(frozen=True)
class Step:
    """The unit of commit: some segments, some rows, some models.

    Attributes
    ----------
    index : int
        The record that commits this step; it builds on record ``index - 1``.
    kind : str
        ``"scan"``, ``"race"``, ``"pass"``, ``"rounds"``, ``"transform"`` or ``"publish"``.
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
        """Return the name of an object that this step stores.

        All of them are in one folder, whose names the commit makes durable with a single flush.
        """
        return f"{self.index}/{'-'.join([kind, *map(str, where)])}"


class Each(Protocol):
    """``map``, or a function like it that makes its calls side by side; results keep the order."""

    def __call__(
        self, call: Callable[[Item], Value], items: Sequence[Item], /
    ) -> Iterable[Value]: ...


@dataclass(frozen=True)
class Needs:
    """What a plan asks of the place where it runs.

    Attributes
    ----------
    bytes_for : callable
        Predicted peak of a process, in bytes, by how many tasks it runs at a time.
    tasks : int
        The most tasks that can run at a time.
    in_memory : bool
        V is in the memory of this process.
    """

    bytes_for: Callable[[int], int]
    tasks: int
    in_memory: bool = False


class SegmentLoader(Protocol):
    """Decodes segments of V, so that an executor may keep them in memory from step to step.

    It is pickled and called where tasks run. Which segments are resident changes reads and speed,
    never a bit of the result.
    """

    @property
    def run_id(self) -> str:
        """The run whose segments these are."""
        ...

    @property
    def needs(self) -> Needs:
        """What the tasks need besides the resident segments."""
        ...

    def sizes(self) -> list[int]:
        """Return the bytes of every decoded segment."""
        ...

    def graph(self, segment: int) -> tuple[dict[Any, Any], list[Any]] | None:
        """Return a Dask graph and the keys of the segment's blocks in it; None where V is read."""
        ...

    def __call__(self, segment: int, raw: list[Any] | None = None) -> Any:
        """Decode a segment, from its blocks ``raw`` where those come from a graph."""
        ...


class Work(ABC):
    """One step of one run, ready to execute. It is pure: the same call gives the same bits.

    Every method may run in any process that can read V and the run, any number of times; a work
    is pickled to get there.

    Attributes
    ----------
    segments : int
        Number of leaves.
    parts : int
        Number of parts that every leaf returns; part 0 is small.
    fan_in : int
        Number of values that are added at once, in the tree that reduces a part.
    """

    segments: int
    parts: int = 1
    fan_in: int = 16

    @property
    def loader(self) -> SegmentLoader | None:
        """What decodes the segments that the leaves read; None where none may be resident."""
        return None

    @abstractmethod
    def leaf(self, segment: int, loaded: Any = None) -> list[Part]:
        """Work on one segment.

        Parameters
        ----------
        segment : int
        loaded : optional
            What `loader` returned for the segment, where it is resident.
        """

    def combine(self, part: int, values: Sequence[Part]) -> Part:
        """Add values of one part in the order given, without changing them.

        By default parts are lists, which are joined.
        """
        return [item for value in values for item in value]

    def finish(self, part: int, reduced: Part, small: Part, each: Each = map) -> Any:
        """Store a reduced part and return what is small of it; by default all of it.

        Parameters
        ----------
        part : int
        reduced : object
            The root of the part's tree.
        small : object
            The root of part 0.
        each : callable
            Runs independent calls of this one.
        """
        return reduced


@dataclass(frozen=True)
class StepOutcome:
    """The end of a step that succeeded.

    Attributes
    ----------
    results : list
        What `Work.finish` returned, by part.
    retries : int
        How often a leaf or a finish was started again.
    """

    results: list[Any]
    retries: int


class Executor(ABC):
    """Runs steps. The result depends neither on which executor does, nor on how many workers.

    Attributes
    ----------
    in_process : bool
        Tasks run in the calling process, so that they see its memory and its disks.
    dask_client : distributed.Client or None
        The client whose workers run the tasks: Dask arrays are evaluated there.
    """

    in_process: ClassVar[bool] = False
    dask_client: Any = None

    @abstractmethod
    def resources(self, needs: Needs | None = None) -> Resources:
        """Return what there is to run on, now.

        Parameters
        ----------
        needs : Needs, optional
            Of the plan that is run next: an executor that was not told how many threads to use
            chooses by it.
        """

    @abstractmethod
    def run_step(self, work: Work, on_leaf: Callable[[int], None]) -> StepOutcome:
        """Execute one step; calls ``on_leaf(segment)`` once per segment as it completes.

        Raises
        ------
        ResumableError
            The cluster is gone, or something failed again and again; committed steps are safe.
        """

    def resident(self) -> frozenset[int]:
        """Return the segments of V that are in memory, so that a pass does not read them."""
        return frozenset()

    def room(self, needs: Needs) -> int:
        """Return how many bytes of decoded segments can stay in memory besides ``needs``."""
        return 0

    def everywhere(
        self, function: Callable[..., Any], *arguments: Any, scheduler: bool = False
    ) -> dict[str, Any]:
        """Call a function once in every other process that runs tasks.

        Parameters
        ----------
        function : callable
        *arguments
            Of the function.
        scheduler : bool
            Whether to call it also in the process that hands out tasks, if that is another one.

        Returns
        -------
        dict
            By address (``"scheduler"``, where that was asked) what was returned, or the exception
            that was raised. Processes that left meanwhile are not in it.

        Raises
        ------
        ClusterError
            They do not answer.
        """
        return {}
