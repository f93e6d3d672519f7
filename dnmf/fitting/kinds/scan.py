"""The scan, which reads V first: is it finite and non-negative, and what are its sums?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from dnmf.fitting.checks import check_scan
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
from dnmf.linalg.matrix import bytes_of, join_rows
from dnmf.linalg.measure import measure
from dnmf.linalg.weighted import column_counts
from dnmf.planning.fingerprint import digest
from dnmf.runs.base import Refs
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
        columns = np.zeros((height, self.context.plan.shape[1]))
        rows, sampled = [], []
        loss = loss_of(self.context.plan, 1)
        for start, V, nbytes, check, clipped in read_segment(self.context, segment, None, loaded):
            sums = np.zeros((2, columns.shape[1]))
            found = measure(V, *sums)
            columns[:2] += sums
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
            )
            part.first_bad = moved(found.first_bad, start)
            part.first_bad_weight = moved(found.first_bad_weight, start)
            if weighted:
                columns[-2:] += column_counts(V)
            stop = start + V.shape[0]
            part.missing = missing_of(self.context, start, V)
            part.own = loss.own_term(V)
            stats.add(part)
            rows.append(np.stack([found.row_sums, found.row_sumsq]))
            if self.context.plan.sample and not (found.bad or found.bad_weights):
                picked = np.flatnonzero(draw(self.context, start, stop))
                if picked.size == stop - start:  # it was measured
                    sampled.append(V)
                    columns[2:4] += sums
                    stats.sample_own += part.own
                else:
                    sampled.append(V[picked])
                    measure(sampled[-1], columns[2], columns[3])
                    stats.sample_own += loss.own_term(sampled[-1])
                stats.sample_sumsq += float(found.row_sumsq[picked].sum())
            del V  # before the next one but one is read
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
            total = values[0].copy()
            for value in values[1:]:
                total += value
            return total
        first = ScanStats()
        for value in values:
            first.add(value)
        return first

    def finish(self, part: int, reduced: Any, small: ScanStats, each: Each = map) -> Any:
        if part == 1:
            ref = self.context.store.put(self.step.name("columns"), reduced)
            weighted = self.context.plan.config.weights
            profile = start_profile(reduced) if weighted else reduced[0]
            n_rows = 1 if weighted else self.context.plan.shape[0]
            starts = [self._start_H(m, profile, n_rows) for m in self.step.models]
            return ref, int(np.sum(reduced[0] == 0)), starts
        checks = np.array(reduced.checksums, np.uint64)
        ref = self.context.store.put(self.step.name("checksums"), checks)
        return replace(reduced, checksums=[]), ref, digest(checks)

    def after(self, record: Record, results: list[Any], cost: Cost) -> tuple[Record, list[str]]:
        (stats, checksums, fingerprint), (column_sums, zero_columns, starts) = results
        plan = self.context.plan
        scan = Scan(
            digest=fingerprint,
            seconds=cost.seconds,
            bytes_read=stats.bytes_read,
            nonzeros=stats.nonzeros,
            zero_rows=stats.zero_rows,
            zero_columns=zero_columns,
            clipped=stats.clipped,
            total=stats.total,
            sumsq=stats.sumsq,
            largest=stats.largest,
            row_sums=tuple(stats.row_sums),
            column_sums=column_sums,
            checksums=checksums,
            sample=tuple(stats.sample),
            sample_rows=tuple(stats.sample_rows),
            sample_bytes=stats.sample_bytes,
            sample_sumsq=stats.sample_sumsq,
            own=stats.own,
            sample_own=stats.sample_own,
            fixed_H=plan.fixed_H,
            resident=plan.sample >= 1,
        )
        how = plan.config.missing_chunks
        notes = check_missing(self.context.source, stats.missing, how)
        notes += [*check_scan(plan, stats, zero_columns), *start_notes(plan, scan)]
        step = plan.limits.stop.first_step
        models = tuple(ModelState(None, H, start_W=plan.start_W, step=step) for H in starts)
        state = State(first_phase(plan, scan), scan, models, numeric=tuple(stats.numeric))
        return replace(record, state=state), notes

    def _start_H(self, model: int, profile: np.ndarray, n_rows: int) -> Refs:
        """Store the H that the first pass starts from: given, or random and scaled to the data."""
        plan = self.context.plan
        if plan.start_H is not None:
            return plan.start_H
        spec = plan.config.models[model]
        with np.errstate(over="ignore", invalid="ignore"):  # such entries are refused, with names
            row = start_row(plan, profile, n_rows, spec.k)
            H = random_H(spec.seed, 0, spec.k, 0, row, plan.dtype)
        if plan.fixed_H is not None:
            H[: plan.config.fixed] = read_H(self.context.store, plan.fixed_H)
        return (self.context.store.put(self.step.name("next_H", model), H),)
