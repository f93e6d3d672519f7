"""Blocks, segments and slabs: all that a run freezes before it reads anything."""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from dnmf.config import MIB, FitConfig, ModelSpec
from dnmf.errors import MemoryPlanError
from dnmf.labels import Labels
from dnmf.losses import Loss, get_loss
from dnmf.planning.axis import choose_axis
from dnmf.planning.limits import Limits, current
from dnmf.planning.rounds import Rounds, choose_rounds
from dnmf.planning.versions import installed
from dnmf.planning.zeros import check_zeros
from dnmf.runs.base import Refs, optional_refs, refs_to_json
from dnmf.sources.base import Source

__all__ = [
    "Plan",
    "chunk_rows",
    "compute_dtype",
    "loss_shape",
    "make_plan",
    "slab_starts",
]

SEGMENT_BYTES = 256 * MIB
"""Bytes of a segment, once there are ENOUGH_SEGMENTS; with fewer, segments are smaller."""

SMALL_SEGMENT_BYTES = 64 * MIB
"""Bytes that are worth a task where V is small: it takes milliseconds to hand one out."""

MOST_SEGMENTS, ENOUGH_SEGMENTS, FEWEST_SEGMENTS = 2000, 64, 32
MOST_SLABS = 100_000
SAMPLE_ROWS = 20_000

DEAR_BLOCKS, DEAR_BLOCK_BYTES = 4, 2 * MIB
"""Blocks that a small V has for losses which compute for long on few bytes, so that several tasks
share the work; and what is still worth a block (each task adds statistics as large as H, or K)."""


@dataclass(frozen=True)
class Plan:
    """The layout of a run: a function of the data and the options, never of the cluster.

    Attributes
    ----------
    run_id : str
        Part of every task's key.
    mode : str
        ``"fit"`` or ``"transform"``.
    axis : str
        ``"rows"``: blocks are rows of V; ``"columns"``: blocks are columns of V, the fit runs
        on V' and the factors swap at the surface.
    shape : (int, int)
        Shape of the matrix whose rows are cut into blocks (V' for ``"columns"``).
    block_starts : tuple of int
        First row of every block, then n.
    segment_blocks : tuple of int
        First block of every segment, then the number of blocks.
    segment_bytes : tuple of int
        Decoded bytes of every segment, as stored.
    largest_block : (int, int, int)
        Rows, decoded bytes and read overhead in bytes of the largest block.
    slab_starts : tuple of int
        First column of every slab of W'V and H, then d.
    sample : float
        Share of the rows that the scan keeps; 0 for none, 1 for all.
    growth : float
        Bytes of entries in the dtype to compute in over their bytes as stored.
    start_H, start_W : tuple of ObjectRef or None
        The given H, and the rows of the given W of each segment.
    read_groups : tuple of tuple of int
        Models that share a read, where they are too many for one; empty: all share every read.
    fixed_H : tuple of ObjectRef or None
        The given rows of H.
    columns : tuple of str or None
        The names of V's columns.
    versions : dict
        Versions of the packages that the run was begun with.
    limits : Limits
        Constants that decide bits or memory.
    most_used : int
        The most columns that can have entries, as far as the number of stored entries tells; 0
        where it is not known.
    left_out : int
        Columns that nothing uses, which steps after the scan leave out; ``shape`` does without.
    rounds : tuple of Rounds
        Of each model, between two reads.
    empty_rows : int
        Rows without entries, which every step leaves out; ``shape`` does without.
    opening : int
        Bytes that it takes to find those.
    support : int
        Columns in which the H of a transform has something; 0 where it is not known.
    published : bool
        The result goes to a run folder, in chunks; else it is put together in memory.
    """

    run_id: str
    mode: str
    source: dict[str, Any] | None
    source_metadata: dict[str, Any]
    description: str
    axis: str
    shape: tuple[int, int]
    sparse: bool
    stored_dtype: str
    dtype: str
    block_starts: tuple[int, ...]
    segment_blocks: tuple[int, ...]
    segment_bytes: tuple[int, ...]
    largest_block: tuple[int, int, int]
    slab_starts: tuple[int, ...]
    config: FitConfig
    sample: float = 0.0
    start_H: Refs | None = None
    start_W: Refs | None = None
    read_groups: tuple[tuple[int, ...], ...] = ()
    fixed_H: Refs | None = None
    columns: Labels | None = None
    versions: dict[str, str] | None = None
    growth: float = 1.0
    limits: Limits = field(default_factory=Limits)
    most_used: int = 0
    left_out: int = 0
    rounds: tuple[Rounds, ...] = ()
    empty_rows: int = 0
    opening: int = 0
    support: int = 0
    published: bool = False

    @property
    def all_columns(self) -> int:
        """Columns of the matrix whose rows are cut into blocks, those that are left out too."""
        return self.shape[1] + self.left_out

    @property
    def all_rows(self) -> int:
        """Rows of the matrix that is cut into blocks, those that are left out too."""
        return self.shape[0] + self.empty_rows

    @property
    def shape_of_V(self) -> tuple[int, int]:
        """Rows and columns of V, whatever is left out, and whichever of them are blocks' rows."""
        n, d = self.all_rows, self.all_columns
        return (n, d) if self.axis == "rows" else (d, n)

    @property
    def segments(self) -> int:
        return len(self.segment_blocks) - 1

    @property
    def blocks(self) -> int:
        return len(self.block_starts) - 1

    @property
    def slabs(self) -> int:
        return len(self.slab_starts) - 1

    @property
    def bytes_per_read(self) -> int:
        """Decoded bytes of V that one pass reads."""
        return sum(self.segment_bytes)

    @property
    def memory_bytes(self) -> list[int]:
        """Bytes of every segment once decoded, in the dtype to compute in."""
        return [int(size * max(self.growth, 1.0)) for size in self.segment_bytes]

    @property
    def row_starts(self) -> list[int]:
        """First row of every segment, then n."""
        return [self.block_starts[b] for b in self.segment_blocks]

    def oriented(self, source: Source) -> Source | None:
        """Return V as the plan reads it, or None where it can no longer be read so."""
        if self.axis == "rows":
            return source
        if not self.empty_rows:
            return source.transposed()
        return source.filled_columns(self.limits.times_used)

    def segment_block_starts(self, segment: int) -> tuple[int, ...]:
        """Return the first row of every block of a segment, then its end."""
        first, last = self.segment_blocks[segment], self.segment_blocks[segment + 1]
        return self.block_starts[first : last + 1]

    def to_json(self) -> dict[str, Any]:
        refs = {name: refs_to_json(getattr(self, name)) for name in _REFS}
        nested = {
            "config": self.config.to_json(),
            "limits": self.limits.to_json(),
            "rounds": [vars(one) for one in self.rounds],
        }
        return {**vars(self), **refs, **nested}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Plan:
        value = dict(value)
        for key in ("shape", "block_starts", "segment_blocks", "segment_bytes"):
            value[key] = tuple(value[key])
        for key in ("largest_block", "slab_starts"):
            value[key] = tuple(value[key])
        for key in _REFS:
            value[key] = optional_refs(value[key])
        value["columns"] = None if value.get("columns") is None else tuple(value["columns"])
        value["read_groups"] = tuple(map(tuple, value["read_groups"]))
        nested = {
            "config": FitConfig.from_json(value["config"]),
            "limits": Limits.from_json(value["limits"]),
            "rounds": tuple(Rounds(**one) for one in value["rounds"]),
        }
        return cls(**{**value, **nested})


_REFS = ("start_H", "start_W", "fixed_H")


def loss_shape(
    config: FitConfig, model: ModelSpec | None = None, limits: Limits | None = None
) -> Loss:
    """Return the loss of these options (and of this model), for the sizes of its statistics.

    What else a loss declares does not depend on the limits.
    """
    masked = config.masked if model is None else config.knows_missing(model)
    solver, beta, losses = config.solver, config.beta, limits.losses if limits else None
    return get_loss(config.loss, solver=solver, beta=beta, masked=masked, limits=losses)


def compute_dtype(stored: np.dtype, asked: str | None) -> np.dtype:
    """Return the dtype to compute in: float32 for what it holds exactly, else float64."""
    if asked is not None:
        return np.dtype(asked)
    small = stored.kind == "f" and stored.itemsize <= 4
    small = small or (stored.kind in "iu" and stored.itemsize <= 2) or stored.kind == "b"
    return np.dtype("float32" if small else "float64")


def make_plan(
    source: Source, config: FitConfig, mode: str = "fit", limits: Limits | None = None
) -> tuple[Plan, Source]:
    """Lay out a run.

    Parameters
    ----------
    source : Source
    config : FitConfig
    mode : {"fit", "transform"}
    limits : Limits, optional
        By default the current ones.

    Returns
    -------
    plan : Plan
    source : Source
        ``source``, or its transpose where columns of V are the blocks.

    Raises
    ------
    MemoryPlanError
        Neither rows nor columns can be decoded within ``config.max_block``.
    """
    limits = limits or current()
    for model in config.models if config.masked else ():
        loss_shape(config, model)  # refuses what the loss does not know, whatever V is
    check_zeros(source, config)
    dtype = compute_dtype(source.dtype, config.dtype)
    block_size, times = _block_size(source, config), limits.times_used
    axis, oriented, starts = choose_axis(source, config, dtype, mode, block_size, times)
    n, d = oriented.shape
    sizes = [oriented.block_bytes(a, b) for a, b in itertools.pairwise(starts)]
    total = sum(sizes)
    wanted = config.segments or _segments(total)
    cuts = oriented.segment_cuts(starts)
    count = min(len(cuts) - 1, wanted)
    segment_blocks = [cuts[s * (len(cuts) - 1) // count] for s in range(count + 1)]
    growth = oriented.growth(dtype.itemsize, config.missing)
    largest = int(np.argmax(sizes))
    rows = max(b - a for a, b in itertools.pairwise(starts))
    alone = count == len(sizes)
    overhead = oriented.read_overhead(starts[largest], starts[largest + 1], alone)
    plan = Plan(
        run_id=uuid.uuid4().hex[:12],
        mode=mode,
        source=dict(source.spec()) if source.persistent else None,
        source_metadata=dict(source.metadata()),
        description=source.describe(),
        axis=axis,
        shape=(n, d),
        sparse=oriented.is_sparse or config.masked,
        stored_dtype=str(source.dtype),
        dtype=dtype.name,
        block_starts=tuple(starts),
        segment_blocks=tuple(segment_blocks),
        segment_bytes=tuple(sum(sizes[a:b]) for a, b in itertools.pairwise(segment_blocks)),
        largest_block=(rows, sizes[largest], overhead),
        slab_starts=slab_starts(config, limits, d),
        config=config,
        versions=installed(),
        sample=sample_share(config, n, int(total * growth), mode),
        growth=growth,
        limits=limits,
        most_used=min(d, oriented.nonzeros or 0) if oriented.is_sparse else 0,
        empty_rows=oriented.empty_rows,
        opening=oriented.opening_bytes,
    )
    plan = replace(plan, rounds=choose_rounds(plan, loss_shape(config).compresses))
    return plan, oriented


def slab_starts(config: FitConfig, limits: Limits, d: int) -> tuple[int, ...]:
    """Cut d columns of H into slabs: where each begins, then d.

    Raises
    ------
    MemoryPlanError
        They are too many.
    """
    rows_of_sums = sum(
        loss_shape(config, model, limits).statistic_rows(model.k, d) for model in config.models
    )
    slab = max(1, config.slab_size // (8 * rows_of_sums))
    if d // slab > MOST_SLABS:
        raise MemoryPlanError(
            f"H has {d:,} columns, which would be {d // slab:,} slabs of {slab:,}; there may be "
            f"{MOST_SLABS:,} at most. Give a larger slab_size, if V really is that wide"
        )
    return (*range(0, d, slab), d)


def _segments(nbytes: int) -> int:
    """Return how many segments these bytes are worth; blocks may allow fewer."""
    small = min(ENOUGH_SEGMENTS, -(-nbytes // SMALL_SEGMENT_BYTES))
    return min(MOST_SEGMENTS, max(FEWEST_SEGMENTS, small, -(-nbytes // SEGMENT_BYTES)))


def sample_share(config: FitConfig, n: int, nbytes: int, mode: str) -> float:
    """Return the share of rows in the sample: a function of V's size and the options only.

    A given H starts with passes over V: only a sample of every row, which they read, is of use.

    Parameters
    ----------
    n : int
        Rows.
    nbytes : int
        Bytes of V in the dtype to compute in.
    """
    if mode != "fit" or not config.sample:
        return 0.0
    share = min(1.0, max(SAMPLE_ROWS / n, config.sample), config.sample_bytes / nbytes)
    return 0.0 if config.init == "custom" and share < 1 else share


def _block_size(source: Source, config: FitConfig) -> int:
    """Return the most bytes of a block, with some room, as blocks end with whole rows."""
    if not loss_shape(config).dear:
        return config.block_size
    share = -(-source.nbytes // DEAR_BLOCKS) + source.nbytes // (100 * DEAR_BLOCKS)
    return min(config.block_size, max(share, DEAR_BLOCK_BYTES))


def chunk_rows(plan: Plan) -> int:
    """Return the rows of a chunk of the tall factor in the result."""
    k = sum(model.k for model in plan.config.models)
    limits = plan.limits
    most = limits.chunk_bytes if len(plan.config.models) == 1 else limits.batch_chunk_bytes
    rows = max(1, most // (8 * k))
    return min(plan.all_rows, rows)
