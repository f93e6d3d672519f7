"""One measured number: what it is, its goal, and how it is shown and kept."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Figure", "Goal", "number_text", "read_lines"]


@dataclass(frozen=True)
class Goal:
    """A bound: ``at_most`` or ``at_least`` this."""

    bound: float
    at_least: bool = False

    def met(self, value: float) -> bool:
        return value >= self.bound if self.at_least else value <= self.bound

    def __str__(self) -> str:
        return f"{'>=' if self.at_least else '<='} {number_text(self.bound)}"


@dataclass(frozen=True)
class Figure:
    """One number of a benchmark.

    Attributes
    ----------
    benchmark : str
        Its name on the command line.
    case : str
        Which data, where it ran.
    name : str
        What was measured.
    value : float or None
        Infinite where something was never reached; None where the case was skipped.
    unit : str
        Empty for a ratio.
    goal : Goal or None
    skipped : str
        Why there is no value.
    details : dict
        What the number was made of, JSON.
    """

    benchmark: str
    case: str
    name: str
    value: float | None
    unit: str = ""
    goal: Goal | None = None
    skipped: str = ""
    details: dict[str, Any] = field(default_factory=dict)

    @property
    def met(self) -> bool | None:
        """Whether the goal is met; None where there is no goal, or no value."""
        if self.goal is None or self.value is None:
            return None
        return self.goal.met(self.value)

    @property
    def key(self) -> tuple[str, str, str]:
        return self.benchmark, self.case, self.name

    def cells(self) -> list[str]:
        """Case, what was measured, value, goal, whether it is met."""
        if self.value is None:
            value = f"skipped: {self.skipped}"
        else:
            value = f"{number_text(self.value)} {self.unit}".rstrip()
        met = {None: "", True: "yes", False: "NO"}[self.met]
        return [self.case, self.name, value, "" if self.goal is None else str(self.goal), met]

    def to_json(self) -> dict[str, Any]:
        goal = None if self.goal is None else str(self.goal)
        return {**vars(self), "value": _finite(self.value), "goal": goal, "met": self.met}

    @classmethod
    def from_json(cls, line: dict[str, Any]) -> Figure:
        values = {name: line[name] for name in cls.__dataclass_fields__}
        if values["goal"]:
            sign, bound = values["goal"].split()
            values["goal"] = Goal(float(bound.replace(",", "")), at_least=sign == ">=")
        if values["value"] is not None:
            values["value"] = float(values["value"])
        return cls(**values)


def _finite(value: float | None) -> float | str | None:
    """JSON has no infinity: it is a string there."""
    return value if value is None or math.isfinite(value) else str(value)


def number_text(value: float) -> str:
    """Four digits, or whole numbers with separators."""
    if not math.isfinite(value):
        return "never" if value > 0 else str(value)
    if value == round(value) and abs(value) < 1e15:
        return f"{value:,.0f}"
    return f"{value:.4g}" if abs(value) < 1000 else f"{value:,.0f}"


def read_lines(text: str) -> list[dict[str, Any]]:
    """The lines of a JSON file that benchmarks wrote, the last one of each figure.

    Of several runs of one figure at one size the last one counts.
    """
    found: dict[Sequence[Any], dict[str, Any]] = {}
    for line in text.splitlines():
        if line.strip():
            value = json.loads(line)
            key = (value["size"], *Figure.from_json(value).key)
            found.pop(key, None)
            found[key] = value
    return list(found.values())
