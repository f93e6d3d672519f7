"""How many models can share a read, by memory."""

from __future__ import annotations

from dataclasses import replace

from dnmf.config import Resources
from dnmf.errors import MemoryPlanError
from dnmf.planning.memory import MemoryNeed, check_memory
from dnmf.planning.plan import Plan

__all__ = ["grouped"]


def grouped(plan: Plan, resources: Resources) -> tuple[Plan, MemoryNeed]:
    """The plan with its models in as few groups as memory allows; a single model stays alone.

    Raises
    ------
    MemoryPlanError
        Not even one model after the other fits.
    """
    models = len(plan.config.models)
    count = 1
    while True:
        laid_out = replace(plan, groups=_dealt(plan, count) if count > 1 else ())
        try:
            return laid_out, check_memory(laid_out, resources)
        except MemoryPlanError:
            if count >= models:
                raise
            count = min(models, count + max(1, count // 4))


def _dealt(plan: Plan, count: int) -> tuple[tuple[int, ...], ...]:
    """Groups of about the same number of components, the largest models dealt first."""
    order = sorted(range(len(plan.config.models)), key=lambda m: -plan.config.models[m].k)
    groups: list[list[int]] = [[] for _ in range(count)]
    sizes = [0] * count
    for m in order:
        least = sizes.index(min(sizes))
        groups[least].append(m)
        sizes[least] += plan.config.models[m].k
    return tuple(tuple(sorted(group)) for group in groups if group)
