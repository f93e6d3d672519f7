"""The scan, which reads V first: is it finite and non-negative, and what are its sums?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from dnmf.fitting.checks import check_scan
from dnmf.fitting.data.column_sums import ColumnSums
from dnmf.fitting.data.reading import Loaded, Loader, missing_of, read_segment
from dnmf.fitting.data.rows import moved, start_profile
from dnmf.fitting.data.sample import draw, put_rows
from dnmf.fitting.data.scan_stats import ScanStats
from dnmf.fitting.kinds.base import Cost, StepWork
from dnmf.fitting.model_state import ModelState
from dnmf.fitting.models.factors import read_H, start_row
from dnmf.fitting.models.objective import loss_of
from dnmf.fitting.phases import first_phase, start_notes
from dnmf.fitting.record import Record, Scan, State
from dnmf.init.random import random_H
from dnmf.linalg.blas import numeric_fingerprint
from dnmf.linalg.matrix import Matrix, bytes_of, join_rows
from dnmf.linalg.measure import measure
from dnmf.linalg.weighted import column_counts
from dnmf.planning.fingerprint import digest
from dnmf.planning.narrow import narrowed, worth_narrowing
from dnmf.planning.plan import Plan
from dnmf.planning.rounds import rounds_notes
from dnmf.runs.base import ObjectRef, Refs
from dnmf.sources.missing import check_missing
from dnmf.steps.work import Each

__all__ = ["ScanWork"]


class ScanWork(StepWork):
    """The work of the scan. Part 0: `ScanStats`; part 1: sums of the columns and of squares.

    With a sample two more rows are the sample's; with weights the last two are `column_counts`.
    """

    parts = 2

    @property
    def loader(self) -> Loader:
        return Loader(self.context)

    def leaf(self, segment: int, loaded: Loaded | None = None) -> list[Any]:
        """Measure the blocks of a segment, and store the sums of its rows."""
        stats = ScanStats(numeric=[numeric_fingerprint()["digest"]])
        weighted = self.context.plan.config.weights
        height = (4 if self.context.plan.sample else 2) + 2 * weighted
        columns = ColumnSums(height, self.context.plan.shape[1])
        rows, sampled = [], []
        loss = loss_of(self.context.plan, 1)
        for start, V, nbytes, check, clipped in read_segment(self.context, segment, None, loaded):
            covered = columns.cover(V)
            sums = np.zeros((2, columns.sums.shape[1]))
            found = measure(covered, *sums)
            columns.sums[:2] += sums
            part = ScanStats(
                nbytes,
                found.nonzeros,
                int(np.count_nonzero(found.row_sums == 0)),
                float(found.row_sums.sum()),
                float(found.row_sumsq.sum()),
                found.largest,
                found.bad,
                checksums=[check],
                bad_weights=found.bad_weights,
                largest_weight=found.largest_weight,
                clipped=clipped,
                unobserved=_unobserved(V) if self.context.plan.config.missing else 0,
            )
            where = start, columns.column, self.context.source.number
            part.first_bad = moved(found.first_bad, *where)
            part.first_bad_weight = moved(found.first_bad_weight, *where)
            if weighted:
                columns.sums[-2:] += column_counts(covered)
            stop = start + V.shape[0]
            part.missing = missing_of(self.context, start, V)
            part.own = loss.own_term(V)
            stats.add(part)
            rows.append(np.stack([found.row_sums, found.row_sumsq]))
            if self.context.plan.sample and not (found.bad or found.bad_weights):
                picked = np.flatnonzero(draw(self.context, start, stop))
                if picked.size == stop - start:  # it was measured
                    sampled.append(V)
                    columns.sums[2:4] += sums
                    stats.sample_own += part.own
                else:
                    sampled.append(V[picked])
                    part_of = sampled[-1] if covered is V else covered[picked]
                    measure(part_of, *columns.sums[2:4])
                    stats.sample_own += loss.own_term(sampled[-1])
                stats.sample_sumsq += float(found.row_sumsq[picked].sum())
            del V, covered  # before the next one but one is read
        name, sums = self.step.name("row_sums", segment), np.concatenate(rows, axis=1)
        stats.row_sums = [self.context.store.put(name, sums)]
        if self.context.plan.sample:
            self._store_sample(segment, sampled, stats)
        return [stats, columns]

    def _store_sample(self, segment: int, sampled: list[Any], stats: ScanStats) -> None:
        """Store the segment's part of the sample, unless V is in this process's memory anyway."""
        stats.sample_rows = [sum(rows.shape[0] for rows in sampled)]
        stats.sample = [()]
        if not sum(stats.sample_rows):
            return
        stats.sample_bytes = sum(bytes_of(rows) for rows in sampled)
        if self.context.store.path is not None or self.context.source.persistent:
            joined = join_rows(sampled)
            stats.sample = [put_rows(self.context.store, self.step.name("sample", segment), joined)]

    def combine(self, part: int, values: Sequence[Any]) -> Any:
        if part == 1:
            return ColumnSums.added(values)
        first = ScanStats()
        for value in values:
            first.add(value)
        return first

    def finish(self, part: int, reduced: Any, small: ScanStats, each: Each = map) -> Any:
        if part == 1:
            return self._of_columns(reduced)
        checks = np.array(reduced.checksums, np.uint64)
        ref = self.context.store.put(self.step.name("checksums"), checks)
        filled = None
        if self.context.plan.empty_rows:
            numbers = self.context.source.numbers()
            filled = self.context.store.put(self.step.name("filled"), numbers)
        stats = replace(reduced, checksums=[])
        return stats, ref, digest(checks, self.context.source), filled

    def after(self, record: Record, results: list[Any], cost: Cost) -> tuple[Record, list[str]]:
        (stats, checksums, fingerprint, filled), columns = results
        plan, zero_columns = self.context.plan, columns.zero_columns
        stats.zero_rows += plan.empty_rows
        scan = Scan(
            digest=fingerprint,
            seconds=cost.seconds,
            bytes_read=stats.bytes_read,
            nonzeros=stats.nonzeros,
            zero_rows=stats.zero_rows,
            zero_columns=zero_columns,
            clipped=stats.clipped,
            unobserved=stats.unobserved,
            total=stats.total,
            sumsq=stats.sumsq,
            largest=stats.largest,
            row_sums=tuple(stats.row_sums),
            column_sums=columns.sums,
            checksums=checksums,
            sample=tuple(stats.sample),
            sample_rows=tuple(stats.sample_rows),
            sample_bytes=stats.sample_bytes,
            sample_sumsq=stats.sample_sumsq,
            own=stats.own,
            sample_own=stats.sample_own,
            fixed_H=columns.fixed_H,
            resident=plan.sample >= 1,
            used=columns.used,
            used_columns=columns.used_columns,
            filled=filled,
        )
        how = plan.config.missing_chunks
        notes = check_missing(self.context.source, stats.missing, how)
        notes += [*check_scan(plan, stats, zero_columns), *start_notes(plan, scan)]
        notes += rounds_notes(plan, scan.unobserved)
        step = plan.limits.stop.first_step
        models = tuple(ModelState(None, H, start_W=plan.start_W, step=step) for H in columns.starts)
        state = State(first_phase(plan, scan), scan, models, numeric=tuple(stats.numeric))
        return replace(record, state=state), notes

    def _of_columns(self, reduced: ColumnSums) -> _Columns:
        """Store the sums and where models start, of the columns with entries if that is worth it.

        A given H may have something in a column that V does not use. It predicts something there,
        so such a column counts: all are kept.
        """
        store, plan = self.context.store, self.context.plan
        used = reduced.used()
        zero_columns = plan.shape[1] - used.size
        given = {name: read_H(store, refs) for name, refs in _given(plan).items() if refs}
        narrow = worth_narrowing(plan, used.size)
        if narrow and all(_zero_elsewhere(H, used) for H in given.values()):
            ref, count, sums = store.put(self.step.name("used"), used), used.size, reduced.at(used)
            fixed = given.get("fixed_H")
            refs = None if fixed is None else (self._put_narrow("fixed_H", fixed, used),)
            plan = narrowed(plan, count, refs)
            if "start_H" in given:
                start_H = self._put_narrow("start_H", given["start_H"], used)
                plan = replace(plan, start_H=(start_H,))
        else:
            ref, count, sums = None, 0, reduced.whole()
        stored = store.put(self.step.name("columns"), sums)
        profile = start_profile(sums) if plan.config.weights else sums[0]
        n_rows = 1 if plan.config.weights else plan.shape[0]
        starts = [self._start_H(plan, m, profile, n_rows) for m in self.step.models]
        return _Columns(stored, zero_columns, starts, plan.fixed_H, ref, count)

    def _put_narrow(self, name: str, H: np.ndarray, used: np.ndarray) -> ObjectRef:
        return self.context.store.put(self.step.name(name), np.ascontiguousarray(H[:, used]))

    def _start_H(self, plan: Plan, model: int, profile: np.ndarray, n_rows: int) -> Refs:
        """Store the H that the first pass starts from: given, or random and scaled to the data."""
        if plan.start_H is not None:
            return plan.start_H
        spec = plan.config.models[model]
        with np.errstate(over="ignore", invalid="ignore"):  # such entries are refused, with names
            row = start_row(plan, profile, n_rows, spec.k)
            H = random_H(spec.seed, 0, spec.k, 0, row, plan.dtype)
        if plan.fixed_H is not None:
            H[: plan.config.fixed] = read_H(self.context.store, plan.fixed_H)
        return (self.context.store.put(self.step.name("next_H", model), H),)


@dataclass(frozen=True)
class _Columns:
    """What the scan stored by columns: sums, and where each model starts."""

    sums: ObjectRef
    zero_columns: int
    starts: list[Refs]
    fixed_H: Refs | None
    used: ObjectRef | None
    used_columns: int


def _given(plan: Plan) -> dict[str, Refs | None]:
    return {"start_H": plan.start_H, "fixed_H": plan.fixed_H}


def _zero_elsewhere(H: np.ndarray, columns: np.ndarray) -> bool:
    """Return whether H is 0 in all but these columns."""
    return bool(np.count_nonzero(H) == np.count_nonzero(H[:, columns]))


def _unobserved(V: Matrix) -> int:
    """Count the entries of a block that are missing: of CSR those that are not stored."""
    return 0 if isinstance(V, np.ndarray) else V.shape[0] * V.shape[1] - int(V.indptr[-1])
