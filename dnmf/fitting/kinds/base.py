"""The base of all kinds of steps: a map-reduce, and what its end does to the record."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any

from dnmf.fitting.data.context import Context, RunWork
from dnmf.fitting.record import Record
from dnmf.names import load
from dnmf.steps.work import Step

__all__ = ["KINDS", "Cost", "StepWork", "make_work"]

KINDS: dict[str, str] = {
    "scan": "dnmf.fitting.kinds.scan:ScanWork",
    "race": "dnmf.fitting.kinds.race:RaceWork",
    "pass": "dnmf.fitting.kinds.passes:PassWork",
    "rounds": "dnmf.fitting.kinds.rounds:RoundsWork",
    "transform": "dnmf.fitting.kinds.transform:TransformWork",
    "publish": "dnmf.fitting.kinds.publish:PublishWork",
}
"""The kinds by name: a race runs whole fits in memory by the loop that runs the race."""


@dataclass(frozen=True)
class Cost:
    """The time that a step took, and its retries.

    Attributes
    ----------
    seconds : float
    retries : int
        How often a part of it was started again.
    """

    seconds: float
    retries: int


class StepWork(RunWork):
    """One kind of step of a fit: its leaf, combine and finish run where tasks run.

    `prepare` and `after` run in the process that commits the step.
    """

    def prepare(self) -> None:
        """Do what must be done once before any leaf runs; doing it again must be harmless."""

    @abstractmethod
    def after(self, record: Record, results: list[Any], cost: Cost) -> tuple[Record, list[str]]:
        """Return the record that follows, and remarks for the user.

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


def make_work(context: Context, step: Step) -> StepWork:
    """Make the work of a step, by its kind."""
    work: StepWork = load(KINDS[step.kind])(context, step)
    return work
