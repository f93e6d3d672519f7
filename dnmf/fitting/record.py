"""The state of a fit between two steps, as types, and the one way to write and read it.

A record commits a step. It is immutable; `Record.to_json` and `Record.from_json` are the only
code that knows how it lies in a run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from dnmf.fitting.model_state import ModelState, Stop
from dnmf.runs.base import ObjectRef, Refs, optional_refs, refs_from_json, refs_to_json

__all__ = ["Record", "Scan", "Solved", "State"]


@dataclass(frozen=True)
class Scan:
    """The findings of the scan.

    Attributes
    ----------
    digest : str
        The data's fingerprint, of all blocks' checksums.
    seconds : float
    bytes_read : int
    nonzeros, zero_rows, zero_columns : int
    total, sumsq, largest : float
        Sum of all entries, of their squares, and the largest one.
    row_sums : tuple of ObjectRef
        Sums and sums of squares of the rows of each segment, (2, rows).
    column_sums : ObjectRef
        Sums and sums of squares of the columns; then those of the sample; then, with weights,
        `column_counts`.
    checksums : ObjectRef
        Checksums of all blocks.
    sample : tuple of tuple of ObjectRef
        Each segment's rows of the sample; none where V is in this process's memory anyway.
    sample_rows : tuple of int
        How many rows of each segment are in the sample.
    sample_bytes : int
    sample_sumsq : float
    own, sample_own : float
        Sums of the loss's `own_term` over all rows, and over those of the sample.
    fixed_H : tuple of ObjectRef or None
        The given rows of H, which races need.
    resident : bool
        The sample holds every row.
    clipped : int
        Negative entries that count as 0.
    unobserved : int
        Entries that are missing.
    used : ObjectRef or None
        Numbers of the columns with entries, where steps after the scan go over those alone:
        column_sums, fixed_H and every H of the run then have these columns.
    used_columns : int
        How many those are.
    filled : ObjectRef or None
        Numbers of the rows with entries, where the plan leaves out the others: row_sums, the sample
        and every W of the run then have these rows.
    """

    digest: str
    seconds: float
    bytes_read: int
    nonzeros: int
    zero_rows: int
    zero_columns: int
    total: float
    sumsq: float
    largest: float
    row_sums: Refs
    column_sums: ObjectRef
    checksums: ObjectRef
    sample: tuple[Refs, ...] = ()
    sample_rows: tuple[int, ...] = ()
    sample_bytes: int = 0
    sample_sumsq: float = 0.0
    own: float = 0.0
    sample_own: float = 0.0
    fixed_H: Refs | None = None
    resident: bool = False
    clipped: int = 0
    unobserved: int = 0
    used: ObjectRef | None = None
    used_columns: int = 0
    filled: ObjectRef | None = None

    @property
    def replaces_V(self) -> bool:
        """True if passes read the stored sample, which holds every row, instead of V."""
        return self.resident and any(self.sample)

    def to_json(self) -> dict[str, Any]:
        return {
            **vars(self),
            "row_sums": refs_to_json(self.row_sums),
            "column_sums": self.column_sums.to_json(),
            "checksums": self.checksums.to_json(),
            "sample": [refs_to_json(refs) for refs in self.sample],
            "fixed_H": refs_to_json(self.fixed_H),
            "used": None if self.used is None else self.used.to_json(),
            "filled": None if self.filled is None else self.filled.to_json(),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Scan:
        changed = {
            "row_sums": refs_from_json(value["row_sums"]),
            "column_sums": ObjectRef.from_json(value["column_sums"]),
            "checksums": ObjectRef.from_json(value["checksums"]),
            "sample": tuple(refs_from_json(refs) for refs in value["sample"]),
            "sample_rows": tuple(value["sample_rows"]),
            "fixed_H": optional_refs(value["fixed_H"]),
            "used": None if value["used"] is None else ObjectRef.from_json(value["used"]),
            "filled": None if value.get("filled") is None else ObjectRef.from_json(value["filled"]),
        }
        return cls(**{**value, **changed})

    def objects(self, passes_remain: bool) -> set[str]:
        """Return the names of the objects that are needed until the run is done.

        The sample and fixed rows are needed as long as passes remain, not only as long as they go
        over the sample: flushes of W may wait for what a file system does with deleted blocks.
        """
        refs = [self.column_sums, self.checksums, *self.row_sums]
        refs += [ref for ref in (self.used, self.filled) if ref is not None]
        if passes_remain:
            refs += [ref for some in (*self.sample, self.fixed_H or ()) for ref in some]
        return {ref.name for ref in refs}


@dataclass(frozen=True)
class Solved:
    """The result of a transform: W of every row at the given H.

    Attributes
    ----------
    W : tuple of ObjectRef
        The rows of each segment.
    W_starts : tuple of int
        First row of each segment, then the number of rows.
    H : tuple of ObjectRef
        The given H.
    objective : float
    rows : int
        How many there are.
    open_rows : int
        Rows that are not solved.
    first_open : int or None
        The first of them.
    clipped : int
        Negative entries that count as 0.
    """

    W: Refs
    W_starts: tuple[int, ...]
    H: Refs
    objective: float
    rows: int = 0
    open_rows: int = 0
    first_open: int | None = None
    clipped: int = 0

    @property
    def stop(self) -> Stop:
        """What there is to say of the rows."""
        if not self.open_rows:
            return Stop("solved", "every row of W was solved at H")
        return Stop(
            "open",
            f"{self.open_rows:,} of {self.rows:,} rows of W are not solved, the first is row "
            f"{self.first_open:,}: they may be far from an optimum at H. Try it without "
            f"components of H that are nearly sums of others",
        )

    def to_json(self) -> dict[str, Any]:
        return {**vars(self), "W": refs_to_json(self.W), "H": refs_to_json(self.H)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Solved:
        W, H = refs_from_json(value["W"]), refs_from_json(value["H"])
        return cls(**{**value, "W": W, "W_starts": tuple(value["W_starts"]), "H": H})


@dataclass(frozen=True)
class State:
    """The part of a record that the next step needs: all that does not grow with every step.

    Attributes
    ----------
    phase : str
        ``"race"``, ``"sample"`` or ``"full"``: what comes next.
    scan : Scan or None
    models : tuple of ModelState
        Empty before the scan, and in a transform.
    solved : Solved or None
        Result of a transform.
    numeric : tuple of str
        Digests of how the tasks so far rounded.
    """

    phase: str = "full"
    scan: Scan | None = None
    models: tuple[ModelState, ...] = ()
    solved: Solved | None = None
    numeric: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return {
            "phase": self.phase,
            "scan": self.scan.to_json() if self.scan else None,
            "models": [model.to_json() for model in self.models],
            "solved": self.solved.to_json() if self.solved else None,
            "numeric": list(self.numeric),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> State:
        return cls(
            phase=value["phase"],
            scan=Scan.from_json(value["scan"]) if value["scan"] else None,
            models=tuple(ModelState.from_json(model) for model in value["models"]),
            solved=Solved.from_json(value["solved"]) if value["solved"] else None,
            numeric=tuple(value["numeric"]),
        )

    @property
    def scanned(self) -> Scan:
        """The scan, which the next step needs."""
        assert self.scan is not None, "no pass comes before the scan"
        return self.scan

    def with_models(self, changed: Mapping[int, ModelState]) -> State:
        """Replace some models."""
        models = tuple(changed.get(m, model) for m, model in enumerate(self.models))
        return replace(self, models=models)


@dataclass(frozen=True)
class Record:
    """The record that commits a step.

    Attributes
    ----------
    index : int
        Number of the step; -1 before the first one.
    kind : str
        Kind of the step.
    state : State
    history, sample_history : list of dict
        A row for each model and pass over V; and for each race and pass over the sample. Steps
        append to them and never change a row.
    executed : list
        Step, kind, host, process and attempt of every step.
    retries : int
        How often parts of steps were started again, all together.
    done : bool
        The result is published.
    """

    index: int = -1
    kind: str = ""
    state: State = field(default_factory=State)
    history: list[dict[str, Any]] = field(default_factory=list)
    sample_history: list[dict[str, Any]] = field(default_factory=list)
    executed: list[list[Any]] = field(default_factory=list)
    retries: int = 0
    done: bool = False

    def to_json(self) -> dict[str, Any]:
        return {**vars(self), "state": self.state.to_json()}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Record:
        return cls(**{**value, "state": State.from_json(value["state"])})

    @property
    def passes(self) -> int:
        """Passes over V so far."""
        return max((row["pass"] for row in self.history), default=0)

    @property
    def stop(self) -> Stop | None:
        """Why the fit stopped (several models: of the last one)."""
        if self.state.solved:
            return self.state.solved.stop
        return self.state.models[-1].stop if self.state.models else None

    def objects(self) -> set[str]:
        """Return the names of the objects that the record needs."""
        state = self.state
        solved = state.solved
        needed = {ref.name for ref in (*solved.W, *solved.H)} if solved else set[str]()
        if state.scan and not self.done:
            needed |= state.scan.objects(any(model.stop is None for model in state.models))
        for model in state.models:
            needed |= model.objects()
        return needed
