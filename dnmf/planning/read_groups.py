"""The read groups of a plan: how many models can share a read, by memory."""

from __future__ import annotations

from dataclasses import replace

from dnmf.config import Resources
from dnmf.errors import MemoryPlanError
from dnmf.planning.memory import MemoryNeed, check_memory
from dnmf.planning.plan import Plan

__all__ = ["with_read_groups"]


def with_read_groups(plan: Plan, resources: Resources) -> tuple[Plan, MemoryNeed]:
    """Return the plan with its models in as few read groups as memory allows, and its memory.

    Raises
    ------
    MemoryPlanError
        Not even one model after the other fits.
    """
    models = len(plan.config.models)
    count = 1
    while True:
        laid_out = replace(plan, read_groups=_dealt(plan, count) if count > 1 else ())
        try:
            return laid_out, check_memory(laid_out, resources)
        except MemoryPlanError:
            if count >= models:
                raise
            count = min(models, count + max(1, count // 4))


def _dealt(plan: Plan, count: int) -> tuple[tuple[int, ...], ...]:
    """Return groups of about as many components each; the largest models are dealt first."""
    order = sorted(range(len(plan.config.models)), key=lambda m: -plan.config.models[m].k)
    dealt: list[list[int]] = [[] for _ in range(count)]
    sizes = [0] * count
    for m in order:
        least = sizes.index(min(sizes))
        dealt[least].append(m)
        sizes[least] += plan.config.models[m].k
    return tuple(tuple(sorted(models)) for models in dealt if models)
