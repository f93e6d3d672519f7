"""What all kinds of steps share: a map-reduce, and what its end does to the record."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any, ClassVar

from dnmf.fitting.data.context import Context, cached_work
from dnmf.fitting.record import Record
from dnmf.steps.work import Step

__all__ = ["KINDS", "Cost", "StepWork", "make_work"]

KINDS: dict[str, str] = {
    "scan": "dnmf.fitting.kinds.scan:ScanWork",
    "race": "dnmf.fitting.kinds.race:RaceWork",
    "pass": "dnmf.fitting.kinds.passes:PassWork",
    "transform": "dnmf.fitting.kinds.transform:TransformWork",
    "publish": "dnmf.fitting.kinds.publish:PublishWork",
}
"""Looked up by name, so that a race may run whole fits in memory by the loop that runs it."""


@dataclass(frozen=True)
class Cost:
    """What a step took.

    Attributes
    ----------
    seconds : float
    retries : int
        How often a part of it was started again.
    """

    seconds: float
    retries: int


class StepWork:
    """One step of a fit, ready to execute in any process that can open the run.

    Subclasses have a leaf, a combine and a finish, which run where tasks run, and `after`, which
    runs in the process that commits the step.

    Parameters
    ----------
    context : Context
    step : Step

    Attributes
    ----------
    segments, parts, fan_in : int
        As `Work` needs them.
    """

    parts: int = 1
    in_parts: ClassVar[bool] = False

    def __init__(self, context: Context, step: Step) -> None:
        self.context = context
        self.step = step
        self.segments = context.plan.segments
        self.fan_in = context.plan.config.fan_in

    def __reduce__(self) -> tuple[Any, ...]:
        path = self.context.store.path
        return cached_work, (type(self), path, self.context.plan.run_id, self.step)

    def prepare(self) -> None:
        """Do what must be done once, before any leaf runs; again does no harm."""

    def leaf(self, segment: int) -> list[Any]:
        raise NotImplementedError

    def combine(self, part: int, values: Sequence[Any]) -> Any:
        raise NotImplementedError

    def finish(self, part: int, reduced: Any, small: Any) -> Any:
        raise NotImplementedError

    def after(self, record: Record, results: list[Any], cost: Cost) -> tuple[Record, list[str]]:
        """Give the record that follows, and remarks that a person should see.

        Parameters
        ----------
        record : Record
            That of the step before.
        results : list
            What ``finish`` returned, by part.
        cost : Cost

        Raises
        ------
        DnmfError
            The data cannot be fitted; nothing is committed.
        """
        raise NotImplementedError


def make_work(context: Context, step: Step) -> StepWork:
    """Make the work of a step, by its kind."""
    module, _, name = KINDS[step.kind].partition(":")
    work: StepWork = getattr(import_module(module), name)(context, step)
    return work
