"""The loop: schedule a step, execute it, commit its record. Written once for every executor."""

from __future__ import annotations

import os
import socket
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace

from dnmf.errors import VersionMismatchError
from dnmf.fitting.data.context import Context
from dnmf.fitting.kinds.base import Cost, StepWork, make_work
from dnmf.fitting.record import Record
from dnmf.fitting.schedule import next_step
from dnmf.fitting.stopping import left, stop
from dnmf.linalg.blas import roundings
from dnmf.steps.events import Committed, Listener, Notice, Progress, Stopped
from dnmf.steps.work import Executor, Step

__all__ = ["run"]


@dataclass
class _Run:
    """A process that works on a run."""

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
        """Return whether no further pass may start."""
        return self.deadline is not None and time.monotonic() >= self.deadline

    def execute(self, step: Step, record: Record) -> tuple[Record, list[str]]:
        """Run one step; return the record that commits it, and remarks."""
        began = time.perf_counter()
        work = make_work(self.context, step)
        work.prepare()
        outcome = self.executor.run_step(work, self._progress(step, work, record))
        cost = Cost(time.perf_counter() - began, outcome.retries)
        new, notes = work.after(record, outcome.results, cost)
        who = [step.index, step.kind, socket.gethostname(), os.getpid(), self.attempt]
        return replace(
            new,
            index=step.index,
            kind=step.kind,
            executed=[*record.executed, who],
            retries=record.retries + cost.retries,  # also of the scan, which has no row
        ), notes

    def _progress(self, step: Step, work: StepWork, record: Record) -> Callable[[int], None]:
        plan, done, nbytes = self.context.plan, 0, 0
        kind = _told_kind(step)
        number = record.passes + 1 if kind == "pass" else 0
        scan = record.state.scan
        in_sample = scan is not None and scan.replaces_V
        reads = kind in ("scan", "transform") or (kind == "pass" and not in_sample)
        resident = self.executor.resident() if kind == "pass" else frozenset()
        total = 0
        if reads:
            total = sum(b for s, b in enumerate(plan.segment_bytes) if s not in resident)

        def on_leaf(segment: int) -> None:
            nonlocal done, nbytes
            done += 1
            nbytes += plan.segment_bytes[segment] if reads and segment not in resident else 0
            self.listen(Progress(kind, number, done, work.segments, nbytes, total))

        return on_leaf

    def commit(self, step: Step, record: Record, before: Record) -> None:
        """Create the record, tell it, and drop what neither it nor the one before it needs."""
        store, config = self.context.store, self.context.plan.config
        needed, old = record.objects(), before.objects()
        store.commit(step.index, record.to_json(), needed - old)
        store.drop(needed | old, step.index - 1, wait=False)
        rows = record.history[len(before.history) :]
        if step.over == "sample":
            rows = record.sample_history[len(before.sample_history) :]
        self.listen(Committed(_told_kind(step), rows, config.max_passes))
        self.check_numeric(record, before)

    def check_numeric(self, record: Record, before: Record) -> None:
        """Tell, or refuse, that tasks rounded differently."""
        now = record.state.numeric
        if len(roundings(now)) < 2 or len(roundings(before.state.numeric)) > 1:
            return
        text = (
            f"tasks ran on processors or libraries that round differently ({', '.join(now)}): "
            f"the result is right, but not bit for bit reproducible"
        )
        if self.context.plan.config.strict_bits:
            raise VersionMismatchError(f"{text}. Make the workers alike, or drop strict_bits")
        self.listen(Notice(text))


def _told_kind(step: Step) -> str:
    """Return the kind of a step as events name it: passes over the sample have their own."""
    return "sample" if step.kind == "pass" and step.over == "sample" else step.kind


def run(
    context: Context, executor: Executor, listen: Listener, max_time: float | None = None
) -> Record:
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
    Record
        The last one, with the state, the history and why the fit stopped.

    Raises
    ------
    OptionError
        ``max_time`` is not a number above 0.
    """
    process = _Run(context, executor, listen, max_time, uuid.uuid4().hex[:8])
    latest = context.store.latest()
    record = Record() if latest is None else Record.from_json(latest[1])
    process.check_numeric(record, Record())  # what was refused is, when resumed, too
    while True:
        record = _end_by_time(process, record)
        publishes = context.store.path is not None
        step = next_step(context.plan, record, process.attempt, publishes)
        if step is None:
            break
        new, notes = process.execute(step, record)
        process.commit(step, new, record)
        record = new
        for note in notes:
            listen(Notice(note))
    context.store.wait_for_deletion()
    listen(Stopped(record.stop.sentence if record.stop else ""))
    return record


def _end_by_time(process: _Run, record: Record) -> Record:
    """Stop the models that are still active for ``max_time``, once that is over.

    Not on the sample, whose pairs have rows of the sample only, and not before a model's first
    pass over V: there would be no answer at all. The sample's passes are not cut short, so that
    what there is in the end is a prefix of the undisturbed fit.
    """
    state = record.state
    if state.phase != "full" or not process.over():
        return record
    limits, ended = process.context.plan.limits.stop, {}
    for m, model in enumerate(state.models):
        if model.stop is None and model.pair is not None:
            share = left(model, limits)
            why = stop("max_time", process.config, model.passes, left=share)
            ended[m] = replace(model, stop=why)
    return replace(record, state=state.with_models(ended))
