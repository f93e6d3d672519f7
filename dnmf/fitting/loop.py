"""The loop: schedule a step, execute it, commit its record. Written once for every executor."""

from __future__ import annotations

import os
import socket
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from dnmf.errors import VersionMismatchError
from dnmf.fitting import transitions
from dnmf.fitting.data.context import Context
from dnmf.fitting.kinds.passes import PassWork
from dnmf.fitting.kinds.publish import PublishWork
from dnmf.fitting.kinds.race import RaceWork
from dnmf.fitting.kinds.scan import ScanWork
from dnmf.fitting.kinds.transform import TransformWork
from dnmf.fitting.publish import prepare_publication
from dnmf.fitting.schedule import next_step
from dnmf.fitting.state import ModelState
from dnmf.fitting.stopping import stop_sentence
from dnmf.linalg.blas import roundings
from dnmf.steps.events import Committed, Listener, Notice, Progress, Stopped
from dnmf.steps.work import Executor, Step, Work

__all__ = ["WORKS", "run"]

WORKS: dict[str, Callable[[Context, Step], Work]] = {
    "scan": ScanWork,
    "race": RaceWork,
    "pass": PassWork,
    "transform": TransformWork,
    "publish": PublishWork,
}


@dataclass
class _Run:
    """One process working on one run."""

    context: Context
    executor: Executor
    listen: Listener
    max_time: float | None
    attempt: str

    def __post_init__(self) -> None:
        config = self.context.plan.config
        self.config = config.replace(max_time=self.max_time)  # this process's, not the plan's
        self.deadline = None if self.max_time is None else time.monotonic() + self.max_time

    def over(self) -> bool:
        """Whether no further pass may start."""
        return self.deadline is not None and time.monotonic() >= self.deadline

    def execute(self, step: Step, record: dict[str, Any]) -> dict[str, Any]:
        """Run one step and build the record that commits it."""
        began = time.perf_counter()
        if step.kind == "publish":
            prepare_publication(self.context)
        work = WORKS[step.kind](self.context, step)
        outcome = self.executor.run_step(work, self._progress(step, work, record))
        cost = {"seconds": time.perf_counter() - began, "retries": outcome.retries}
        new = transitions.AFTER[step.kind](self.context, step, record, outcome.results, cost)
        who = [step.index, step.kind, socket.gethostname(), os.getpid(), self.attempt]
        executed = [*record.get("executed", []), who]
        retries = record.get("retries", 0) + outcome.retries  # also of the scan, which has no row
        facts = {"format": 1, "index": step.index, "kind": step.kind, "retries": retries}
        return {**new, **facts, "executed": executed}

    def _progress(self, step: Step, work: Work, record: dict[str, Any]) -> Callable[[int], None]:
        plan, done, nbytes = self.context.plan, 0, 0
        kind = "sample" if step.kind == "pass" and step.over != "all" else step.kind
        number = transitions.passes(record) + 1 if kind == "pass" else 0
        reads = kind in ("scan", "transform") or (kind == "pass" and not self._resident(record))
        kept = self.executor.resident() if kind == "pass" else frozenset()
        total = sum(b for s, b in enumerate(plan.segment_bytes) if s not in kept) if reads else 0

        def on_leaf(segment: int) -> None:
            nonlocal done, nbytes
            done += 1
            nbytes += plan.segment_bytes[segment] if reads and segment not in kept else 0
            self.listen(Progress(kind, number, done, work.segments, nbytes, total))

        return on_leaf

    def _resident(self, record: dict[str, Any]) -> bool:
        """Whether the sample holds every row, so that passes read none from the source."""
        scan = record["state"]["scan"]
        return bool(scan and scan["resident"] and any(scan["sample"]))

    def commit(self, step: Step, record: dict[str, Any], before: dict[str, Any]) -> None:
        """Create the record, tell it, and drop what neither it nor the one before it needs."""
        store, plan = self.context.store, self.context.plan
        names, old = transitions.names(record), transitions.names(before)
        store.commit(step.index, record, names - old)
        store.drop(names | old, step.index - 1, wait=False)
        kept = "sample_history" if step.over != "all" else "history"
        rows = record[kept][len(before[kept]) :]
        kind = "sample" if step.kind == "pass" and step.over != "all" else step.kind
        self.listen(Committed(kind, rows, plan.config.max_passes))
        self.check_numeric(record, before)

    def check_numeric(self, record: dict[str, Any], before: dict[str, Any]) -> None:
        """Tell, or refuse, that tasks rounded differently."""
        now = record["state"]["numeric"]
        if len(roundings(now)) < 2 or len(roundings(before["state"]["numeric"])) > 1:
            return
        text = (
            f"tasks ran on processors or libraries that round differently ({', '.join(now)}): "
            f"the result is right, but not bit for bit reproducible"
        )
        if self.context.plan.config.strict_bits:
            raise VersionMismatchError(f"{text}. Make the workers alike, or drop strict_bits")
        self.listen(Notice(text))


def run(
    context: Context, executor: Executor, listen: Listener, max_time: float | None = None
) -> dict[str, Any]:
    """Execute whatever the run has not committed yet.

    Parameters
    ----------
    context : Context
        A created run.
    executor : Executor
    listen : callable
        Receives events.
    max_time : float, optional
        Seconds from now after which no further pass over V starts but the first one of each model.

    Returns
    -------
    dict
        The last record, with the state, the history and why the fit stopped.

    Raises
    ------
    OptionError
        ``max_time`` is not a number above 0.
    """
    process = _Run(context, executor, listen, max_time, uuid.uuid4().hex[:8])
    latest = context.store.latest()
    record = transitions.nothing() if latest is None else latest[1]
    process.check_numeric(record, transitions.nothing())  # what was refused is, when resumed, too
    while True:
        record = _end_by_time(process, record)
        step = next_step(context, record, process.attempt)
        if step is None:
            break
        new = process.execute(step, record)
        process.commit(step, new, record)
        record = new
        for note in record.pop("notes", []):
            listen(Notice(note))
    context.store.settle()
    listen(Stopped(transitions.reason(record)))
    return record


def _end_by_time(process: _Run, record: dict[str, Any]) -> dict[str, Any]:
    """Give the models that are still active max_time as their reason, once it is over.

    Not on the sample, whose pairs have rows of the sample only, and not before a model's first
    pass over V: there would be no answer at all. The sample's passes are not cut short, so that
    what there is in the end is a prefix of the undisturbed fit.
    """
    models = record["state"]["models"]
    if models is None or record["state"]["phase"] != "full" or not process.over():
        return record
    states = [ModelState.from_json(model) for model in models]
    ended = [
        state
        if state.stop_reason or state.pair is None
        else replace(state, stop_reason=stop_sentence("max_time", process.config, state.passes))
        for state in states
    ]
    return {**record, "state": {**record["state"], "models": [s.to_json() for s in ended]}}
