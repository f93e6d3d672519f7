"""The frozen options of a fit, and the limits of a worker."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from dnmf.errors import OptionError

__all__ = ["MIB", "FitConfig", "ModelSpec", "Resources", "format_bytes", "parse_bytes",
           "whole_number"]  # fmt: skip

MIB = 1 << 20

_UNITS = {"b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12}
_UNITS |= {"kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30, "tib": 1 << 40, "": 1}
_UNITS |= {"k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}


def parse_bytes(value: str | int | float, name: str = "size", least: int = 1) -> int:
    """Turn ``"600MB"``, ``"2GiB"`` or a number of bytes into an int.

    Raises
    ------
    OptionError
        The value is not a size, or below ``least``.
    """
    text = str(value).strip().lower().replace(" ", "").replace("_", "")
    digits = text.rstrip("abcdefghijklmnopqrstuvwxyz")
    unit = text[len(digits) :]
    try:
        size = float(digits) * _UNITS[unit]
    except (ValueError, KeyError):
        raise OptionError(f"{name} is {value!r}; give bytes, as in 600MB or 2GiB") from None
    if not (least <= size < 2**62):
        bound = "at least one byte" if least else "0 or more"
        raise OptionError(f"{name} is {value!r}; it must be {bound}")
    return int(size)


def format_bytes(size: float, unit: str | None = None) -> str:
    """Write a size for people: ``"8.2 GB"``, in decimal units, as `parse_bytes` reads them.

    Parameters
    ----------
    size : float
        Bytes.
    unit : {None, "MB"}
        ``"MB"`` for sizes that are to be compared, or typed again: ``"12,345 MB"``.
    """
    if unit is not None:
        return f"{size / 1e6:,.0f} {unit}"
    for name in ("B", "kB", "MB", "GB"):
        if abs(size) < 999.5:
            return f"{size:.0f} B" if name == "B" else f"{size:.3g} {name}"
        size /= 1000
    return f"{size:.3g} TB"


def whole_number(value: Any, name: str, minimum: int) -> int:
    """``value`` as an int, or an OptionError that names it."""
    try:
        number = int(value)
    except (TypeError, ValueError, OverflowError):
        number = None
    if number is None or number != value or isinstance(value, bool):
        raise OptionError(f"{name} is {value!r}; it must be a whole number")
    if number < minimum:
        raise OptionError(f"{name} is {number}; it must be at least {minimum}")
    return number


@dataclass(frozen=True)
class ModelSpec:
    """One of the models that share every read of V.

    Attributes
    ----------
    k : int
        Number of components.
    seed : int
        Seed of its random start, and of what it leaves out.
    fold : int or None
        Which part of V it does not see, so that its error there can be measured; None sees all.
    """

    k: int
    seed: int
    fold: int | None = None


@dataclass(frozen=True)
class FitConfig:
    """All that decides the result of a fit besides the data.

    Attributes
    ----------
    models : tuple of ModelSpec
        At least one.
    loss : str
        A name that the registry of losses knows.
    init : str
        ``"random"``, a variant of NNDSVD, or ``"custom"`` when H (and perhaps W) was given.
    tol : float
        The fit stops when the decrease of the objective that is still to be expected is at
        most ``tol`` times the objective.
    max_passes : int
        Most reads of V after the scan.
    max_time : float or None
        Seconds after which no further pass over V starts but the first one, to which the passes
        over the sample lead. Does not change any pass.
    dtype : str or None
        ``"float32"`` or ``"float64"`` to compute in; None chooses by the data.
    block_size : int
        Bytes of a decoded block.
    max_block : int
        Bytes that one chunk-row may decode to before columns become the blocks.
    segments : int or None
        Number of segments; None chooses by the size of the data.
    fan_in : int
        How many partial sums one node of the reduction tree adds.
    slab_size : int
        Bytes (float64) of one column slab of the reduced W'V.
    keep_order : bool
        Components of the result are in the order of the given start.
    strict_bits : bool
        Refuse, instead of marking, a fit whose tasks ran on processors or libraries that
        round differently.
    missing_chunks : str
        ``"auto"``, ``"fill"`` or ``"error"``: what a chunk that is not stored means.
    sample : float
        Share of the rows that the scan keeps as the resident sample (at least 20,000 rows);
        0 fits without a sample.
    sample_bytes : int
        Most bytes of the sample, in the dtype to compute in.
    n_init : int
        Random starts that search on a part of the sample; the best goes on.
    beta : float or None
        Of the divergence, where ``loss`` is ``"beta"``.
    solver : str or None
        ``"hals"`` (least squares), ``"mu"`` (multiplicative rules), None for the loss's own.
    alpha_W, alpha_H : float
        Strengths of the penalties of W and H, which are multiplied by the columns and the rows
        of V; ``alpha_H="same"`` is ``alpha_W``.
    l1_ratio : float
        Share of l1 in them.
    missing : str or None
        Entries that are unobserved: ``"nan"``, those that are NaN; ``"zeros"``, those that a
        sparse V does not store; None, no entry.
    weights : bool
        Entries of V have weights, which are a matrix of their own.
    residuals : bool
        Near the end sum the objective entry by entry, where products would lose its digits; a
        search among starts needs only their order.
    holdout : str or None
        How models that have a fold leave out: ``"bicv"``, a part of the rows and of the columns;
        ``"speckled"``, single entries.
    folds : int
        Into how many parts rows and columns are cut for them.
    batch : bool
        Each model has a result of its own, in a group of its own.
    fixed_H : str or None
        Of the rows of H that are held as given: their number, a space, and a digest.
    normalize : str or None
        ``"components"``: rows of H, ``"weights"``: columns of W are scaled to unit size (norm for
        least squares, else sum) in the result, the other factor accordingly.
    """

    models: tuple[ModelSpec, ...]
    loss: str = "frobenius"
    init: str = "random"
    tol: float = 1e-4
    max_passes: int = 200
    max_time: float | None = None
    dtype: str | None = None
    block_size: int = 32 * MIB
    max_block: int = 256 * MIB
    segments: int | None = None
    fan_in: int = 4
    slab_size: int = 16 * MIB
    strict_bits: bool = False
    missing_chunks: str = "auto"
    sample: float = 0.2
    sample_bytes: int = 1 << 30
    n_init: int = 2
    beta: float | None = None
    solver: str | None = None
    alpha_W: float = 0.0
    alpha_H: float | str = "same"
    l1_ratio: float = 0.0
    missing: str | None = None
    weights: bool = False
    residuals: bool = True
    fixed_H: str | None = None
    normalize: str | None = None
    holdout: str | None = None
    folds: int = 5
    batch: bool = False
    keep_order: bool = False

    def __post_init__(self) -> None:
        if not self.models:
            raise OptionError("no model was asked for; give k")
        for model in self.models:
            whole_number(model.k, "k", 1)
            whole_number(model.seed, "seed", 0)
            if model.fold is not None and not 0 <= model.fold < self.folds:
                raise OptionError(f"fold is {model.fold}; there are {self.folds}, from 0 on")
        whole_number(self.max_passes, "max_passes", 1)
        whole_number(self.fan_in, "fan_in", 2)
        for name in ("block_size", "max_block", "slab_size"):
            whole_number(getattr(self, name), name, 1)
        whole_number(self.n_init, "n_init", 1)
        whole_number(self.folds, "folds", 2)
        _one_of(self.holdout, "holdout", (None, "bicv", "speckled"))
        whole_number(self.sample_bytes, "sample_bytes", 0)
        if not (isinstance(self.sample, (int, float)) and 0 <= self.sample <= 1):
            raise OptionError(f"sample is {self.sample!r}; it must be a share between 0 and 1")
        if self.init.startswith("nndsvd") and not (self.sample and self.sample_bytes):
            raise OptionError(
                f"init is {self.init!r}, which comes from the rows of the sample, but the sample "
                f"is empty; give sample and sample_bytes more than 0, or init='random'"
            )
        if self.segments is not None:
            whole_number(self.segments, "segments", 1)
        if not (isinstance(self.tol, (int, float)) and 0 <= self.tol < math.inf):
            raise OptionError(f"tol is {self.tol!r}; it must be a finite number, 0 or more")
        if self.max_time is not None and not (
            isinstance(self.max_time, (int, float)) and self.max_time > 0
        ):
            raise OptionError(f"max_time is {self.max_time!r}; it must be more than 0 seconds")
        _one_of(self.dtype, "dtype", (None, "float32", "float64"))
        _one_of(self.missing_chunks, "missing_chunks", ("auto", "fill", "error"))
        _one_of(self.solver, "solver", (None, "hals", "mu"))
        _one_of(self.missing, "missing", (None, "nan", "zeros"))
        _one_of(self.normalize, "normalize", (None, "components", "weights"))
        self._check_penalties()
        self._check_fixed()

    def _check_fixed(self) -> None:
        if not self.fixed:
            return
        k = min(model.k for model in self.models)
        if self.fixed >= k:
            raise OptionError(
                f"fixed_H has {self.fixed} rows, but k is {k}: none is left to be learned. Give a "
                f"larger k, or transform, which finds W at a given H"
            )
        if self.normalize:
            raise OptionError(
                f"normalize is {self.normalize!r}, which rescales rows of H, but fixed_H keeps the "
                f"scale of its rows; give one of them"
            )

    def _check_penalties(self) -> None:
        if isinstance(self.alpha_H, str) and self.alpha_H != "same":
            raise OptionError(f"alpha_H is {self.alpha_H!r}; it must be 'same' or a number")
        if self.alpha_H != "same":
            _number(self.alpha_H, "alpha_H", 0.0, math.inf)
        _number(self.alpha_W, "alpha_W", 0.0, math.inf)
        _number(self.l1_ratio, "l1_ratio", 0.0, 1.0)
        if self.beta is not None:
            _number(self.beta, "beta", -math.inf, math.inf)

    @property
    def alphas(self) -> tuple[float, float]:
        """alpha_W and alpha_H as numbers."""
        return self.alpha_W, self.alpha_W if self.alpha_H == "same" else float(self.alpha_H)

    @property
    def needs_positive(self) -> bool:
        """Whether the divergence is infinite at zeros of V."""
        return self.beta is not None and self.beta <= 0

    @property
    def tempered(self) -> bool:
        """Whether random starts need more than steps from one place: the divergence is concave."""
        return self.init == "random" and self.beta is not None and self.beta < 1

    @property
    def fixed(self) -> int:
        """So many first rows of H are held."""
        return int(self.fixed_H.partition(" ")[0]) if self.fixed_H else 0

    @property
    def placed(self) -> int:
        """So many first components keep their place in the result; others are sorted."""
        return self.models[0].k if self.keep_order else self.fixed

    @property
    def masked(self) -> bool:
        """Whether entries of V may be unobserved, or weigh differently."""
        return self.weights or self.missing is not None

    @property
    def penalized(self) -> bool:
        """Whether W or H is penalised, which fixes their scales."""
        return any(self.alphas)

    def knows_missing(self, model: ModelSpec) -> bool:
        """Whether this model's loss is over some of the entries only."""
        return self.masked or (self.holdout == "speckled" and model.fold is not None)

    @property
    def total_k(self) -> int:
        """Components of all models together."""
        return sum(model.k for model in self.models)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> FitConfig:
        known = {field.name for field in fields(cls)}
        if set(value) != known:
            raise OptionError(f"options of another version: {sorted(set(value) ^ known)}")
        models = tuple(ModelSpec(**model) for model in value["models"])
        return cls(**{**value, "models": models})

    def differences(self, other: FitConfig) -> list[str]:
        """Sentences for the options in which a resumed run may not differ."""
        free = {"max_time", "strict_bits"}
        return [
            f"{field.name} was {getattr(self, field.name)!r}, now {getattr(other, field.name)!r}"
            for field in fields(self)
            if field.name not in free and getattr(self, field.name) != getattr(other, field.name)
        ]

    def replace(self, **changes: Any) -> FitConfig:
        return replace(self, **changes)


def _number(value: object, name: str, low: float, high: float) -> None:
    good = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not good or not (low <= float(value) <= high and math.isfinite(value)):  # type: ignore[arg-type]
        limits = f", {low:g} or more" if math.isinf(high) and not math.isinf(low) else ""
        limits = f" between {low:g} and {high:g}" if not math.isinf(high) else limits
        raise OptionError(f"{name} is {value!r}; it must be a finite number{limits}")


def _one_of(value: object, name: str, names: tuple[object, ...]) -> None:
    if value not in names:
        raise OptionError(f"{name} is {value!r}; it must be one of {', '.join(map(str, names))}")


@dataclass(frozen=True)
class Resources:
    """What the executor offers.

    Attributes
    ----------
    workers : int
        Worker processes.
    threads : int
        Threads of the largest worker.
    memory_limit : int or None
        Bytes of the smallest worker; None is unlimited or unknown.
    description : str
        For people, e.g. ``"serial"`` or ``"2 workers x 1 thread, 1.0 GB each"``.
    serial : bool
        The calling process itself works; it streams V and keeps nothing of it.
    """

    workers: int
    threads: int
    memory_limit: int | None
    description: str
    serial: bool = False
