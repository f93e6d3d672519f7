"""The report of a plan, for people."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from dnmf.config import Resources
from dnmf.planning.advice import decoded_again, warnings
from dnmf.planning.evaluation import Evaluation
from dnmf.planning.memory import MemoryNeed
from dnmf.planning.plan import Plan
from dnmf.steps.residency import room, that_fit
from dnmf.steps.tree import tree_levels
from dnmf.values import format_bytes

__all__ = ["PlanReport"]


@dataclass(frozen=True)
class PlanReport:
    """A plan, the resources it would run on, and the memory it needs.

    Attributes
    ----------
    plan : Plan
    resources : Resources
    memory : MemoryNeed
    evaluations : tuple of Evaluation
        Of lazy data, where this process works.
    """

    plan: Plan
    resources: Resources
    memory: MemoryNeed
    evaluations: tuple[Evaluation, ...] = ()

    @property
    def tasks(self) -> int:
        """Tasks of one pass on a cluster."""
        plan = self.plan
        tree = sum(tree_levels(plan.segments, plan.config.fan_in))
        if plan.slabs == 1:  # everything of a segment travels through one tree
            return plan.segments + tree + 1
        return plan.segments + (1 + plan.slabs) * (plan.segments + tree + 1)

    @property
    def segments_kept(self) -> int:
        """Number of segments that stay decoded in the workers' memory."""
        limit, count = self.resources.memory_limit, self.resources.workers
        if self.resources.serial or self.plan.mode != "fit":
            return 0
        sizes = self.plan.memory_bytes
        return that_fit(sizes, room([(limit, self.memory.total)] * count, max(sizes)))

    @property
    def kept(self) -> str:
        """What workers keep of V in memory, and the scan as a sample, in words."""
        plan, resident = self.plan, self.segments_kept
        segments = (
            f"{resident:,} of {plan.segments:,} segments of V" if resident else "no segment of V"
        )
        if resident == plan.segments:
            segments = "all of V: passes read nothing after the scan"
        if not plan.sample:
            return f"{segments}; no sample"
        if plan.sample >= 1:
            instead = "" if resident == plan.segments else ", which passes read instead of V"
            return f"{segments}; the sample holds every row{instead}"
        rows = f"{plan.sample:.1%} of the rows"
        return f"{segments}; a sample of {rows} is fitted first, without reading V"

    def lines(self) -> list[tuple[str, str]]:
        """Return label and value, line by line."""
        plan, need = self.plan, self.memory
        n, d = plan.shape_of_V
        rows, block, _ = plan.largest_block
        limit = self.resources.memory_limit
        of = f" of {format_bytes(limit)}" if limit else ""
        what = "columns" if plan.axis == "columns" else "rows"
        again = decoded_again(plan)
        shared = (
            f"; up to {format_bytes(again)} more of chunks that segments share" if again else ""
        )
        return [
            ("data", plan.description),
            ("matrix", f"V {n:,} x {d:,}, k = {_models(plan)}, computing in {plan.dtype}"),
            (
                "blocks",
                f"{plan.blocks:,} of at most {rows:,} {what} ({format_bytes(block)}), "
                f"by {plan.axis}",
            ),
            (
                "segments",
                f"{plan.segments:,}, sums in {plan.slabs} slab(s), fan-in {plan.config.fan_in}",
            ),
            *self._batch(),
            (
                "bytes per read",
                f"{format_bytes(plan.bytes_per_read)} (the scan, and every pass){shared}",
            ),
            *(("evaluation", str(one)) for one in self.evaluations),
            ("runs on", self.resources.description),
            ("kept in memory", self.kept),
            *self._rounds(),
            ("tasks per pass", f"{self.tasks:,}"),
            (
                "memory per worker",
                f"{format_bytes(need.total)} predicted{of} (imports {format_bytes(need.baseline)}, "
                f"H {format_bytes(need.shared)}, per task {format_bytes(need.per_task)}, sums "
                f"{format_bytes(need.reduction)}{self._lazy_bytes()})",
            ),
            *(("warning", text) for text in warnings(plan)),
        ]

    def _rounds(self) -> list[tuple[str, str]]:
        """Return a line on the rounds between two reads, or on why there are none."""
        plan = self.plan
        of_models = [*zip(plan.config.models, plan.rounds, strict=True)]
        some = [(model.k * one.span, one) for model, one in of_models if one.most]
        if not some:
            why = next((one.why_none for _, one in of_models if one.why_none), "")
            return [("rounds between reads", f"none: {why}")] if why else []
        r, rounds = max(some, key=lambda one: one[0])
        size = plan.shape[0] * r * np.dtype(plan.dtype).itemsize
        text = (
            f"at most {rounds.most}, on V in {r} directions ({format_bytes(size)}); one takes "
            f"about {rounds.price:.1%} of a pass"
        )
        return [("rounds between reads", text)]

    def _lazy_bytes(self) -> str:
        """Return what lazy data take of the memory, in words."""
        size = sum(one.in_memory for one in self.evaluations)
        return f", computed data {format_bytes(size)}" if size else ""

    def _batch(self) -> list[tuple[str, str]]:
        """Return lines on how models share reads, where there are several."""
        plan, config = self.plan, self.plan.config
        if not config.batch:
            return []
        whole = [model for model in config.models if model.fold is None]
        folds = len(config.models) - len(whole)
        text = f"{len(whole)} of all of V, {folds} that leave out a fold"
        text += f"; {config.total_k:,} components in all"
        count = max(len(plan.read_groups), 1)
        reads = "all share every read"
        if count > 1:
            most = max(map(len, plan.read_groups))
            reads = (
                f"in {count} groups of at most {most}, as memory allows: each pass is read "
                f"{count} times, once for every group"
            )
        return [("models", text), ("reads", reads)]

    def to_json(self) -> dict[str, Any]:
        """Return the report as JSON, with bytes as numbers."""
        plan = self.plan
        return {
            "data": plan.description,
            "shape": list(plan.shape_of_V),
            "k": [model.k for model in plan.config.models],
            "dtype": plan.dtype,
            "axis": plan.axis,
            "blocks": plan.blocks,
            "segments": plan.segments,
            "slabs": plan.slabs,
            "fan_in": plan.config.fan_in,
            "block_starts": list(plan.block_starts),
            "bytes_per_read": plan.bytes_per_read,
            "bytes_decoded_again": decoded_again(plan),
            "segments_kept": self.segments_kept,
            "sample": plan.sample,
            "read_groups": [list(models) for models in plan.read_groups],
            "tasks_per_pass": self.tasks,
            "resources": asdict(self.resources),
            "memory": asdict(self.memory),
            "rounds": [asdict(one) for one in plan.rounds],
            "evaluations": [asdict(one) for one in self.evaluations],
            "warnings": warnings(plan),
        }


def _models(plan: Plan) -> str:
    return ", ".join(str(k) for k in dict.fromkeys(model.k for model in plan.config.models))
