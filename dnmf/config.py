"""The frozen options of a fit, and the limits of a worker."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from dnmf.errors import OptionError
from dnmf.values import Bytes, Choice, Flag, Kind, Number, Seconds, Whole, whole_number

__all__ = ["MIB", "OPTIONS", "FitConfig", "ModelSpec", "Resources"]

MIB = 1 << 20


def _option(default: Any, kind: Kind, text: str = "") -> Any:
    """Declare an option of a fit: its default, what it may be, and its text in ``--help``."""
    return field(default=default, metadata={"kind": kind, "help": text})


POSITIVE = Number(0, rule="a finite number, 0 or more")


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
    """Options of a fit: all that decides its result besides the data.

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
        most ``tol`` times the objective, or times what is explained, if that is less.
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
    rounds : int or None
        Most rounds on the compressed V between two reads; 0 for none, None as the plan decides.
    n_init : int
        Random starts that search on a part of the sample; the best goes on. From 2 on one from
        singular vectors joins them.
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
    clip : float
        Entries of V from minus this number to 0 count as 0.
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
        The number of rows of H that are given and stay as they are, a space, and a digest of
        them; None where there are none.
    normalize : str or None
        ``"components"``: rows of H, ``"weights"``: columns of W are scaled to unit size (norm for
        least squares, else sum) in the result, the other factor accordingly.
    """

    models: tuple[ModelSpec, ...]
    loss: str = "frobenius"
    init: str = "random"
    tol: float = _option(
        1e-4,
        POSITIVE,
        "Stop when a further decrease of the objective by this share of it, or of what is "
        "explained if that is less, is no longer expected.",
    )
    max_passes: int = _option(200, Whole(), "Most passes over V; each reads it once.")
    max_time: float | None = _option(
        None, Seconds(), "Start no further pass after this time: 90 (seconds), 15min, 2h."
    )
    dtype: str | None = _option(
        None,
        Choice((None, "float32", "float64")),
        "Type to compute in [default: float32 for V of float32 or smaller types, else float64].",
    )
    block_size: int = _option(
        32 * MIB, Bytes(), "Memory of a block, the rows of V that are decoded at once."
    )
    max_block: int = _option(256 * MIB, Bytes())
    segments: int | None = _option(None, Whole())
    fan_in: int = _option(4, Whole(2))
    slab_size: int = _option(16 * MIB, Bytes())
    strict_bits: bool = _option(
        False, Flag(), "Refuse workers whose processors or libraries would round differently."
    )
    missing_chunks: str = _option(
        "auto",
        Choice(("auto", "fill", "error")),
        "Whether chunks that are not stored count as filled with the array's fill value, or are an "
        "error; auto accepts them where V has so many zeros that chunks of zeros are likely.",
    )
    sample: float = _option(
        0.2,
        Number(0, 1, rule="a share between 0 and 1"),
        "Share of the rows that are kept in memory and fitted before V is read again; 0: none.",
    )
    sample_bytes: int = _option(1 << 30, Bytes(0), "Most memory of these rows; 0: none.")
    n_init: int = _option(
        2, Whole(), "Random starts that are compared on the sample; the best goes on."
    )
    rounds: int | None = _option(
        None,
        Whole(0),
        "Most rounds between two reads of V, on a model of it that each read leaves behind; 0: "
        "none [default: as many as are cheaper than a read].",
    )
    beta: float | None = _option(None, Number())
    solver: str | None = _option(
        None,
        Choice((None, "hals", "mu")),
        "mu: multiplicative updates, which need many more passes [default: the loss's own solver].",
    )
    alpha_W: float = _option(0.0, POSITIVE, "Strength of the penalty of W, as in scikit-learn.")
    alpha_H: float | str = _option(
        "same",
        Number(0, word="same", rule=POSITIVE.rule),
        "Strength of the penalty of H; same: that of W.",
    )
    l1_ratio: float = _option(
        0.0,
        Number(0, 1, rule="a finite number between 0 and 1"),
        "Share of the l1 norm in the penalties; the rest is the squared l2 norm.",
    )
    missing: str | None = _option(
        None,
        Choice((None, "nan", "zeros")),
        "Entries of V that were not observed: those that are NaN, or those that a sparse V does "
        "not store.",
    )
    clip: float = _option(
        0.0,
        POSITIVE,
        "Negative entries of V down to minus this number count as 0, and how many is told: 1e-9 "
        "for what subtracting a background leaves.",
    )
    weights: bool = _option(
        False,
        Flag(),
        "A matrix with the weight of every entry of V: 0 for one that was not observed, "
        "1/sigma^2 for one of uncertainty sigma.",
    )
    residuals: bool = True
    fixed_H: str | None = None
    normalize: str | None = _option(
        None,
        Choice((None, "components", "weights")),
        "Scale the result: rows of H (components) or columns of W (weights) have unit norm, or "
        "unit sum for losses other than frobenius.",
    )
    holdout: str | None = None
    folds: int = 5
    batch: bool = False
    keep_order: bool = _option(False, Flag())

    def __post_init__(self) -> None:
        if not self.models:
            raise OptionError("no model was asked for; give k")
        for model in self.models:
            whole_number(model.k, "k", 1)
            whole_number(model.seed, "seed", 0)
            if model.fold is not None and not 0 <= model.fold < self.folds:
                raise OptionError(f"fold is {model.fold}; there are {self.folds}, from 0 on")
        for name, option in OPTIONS.items():
            value = getattr(self, name)
            if value is not None or option.default is not None:
                object.__setattr__(self, name, option.metadata["kind"].read(value, name))
        whole_number(self.folds, "folds", 2)
        Choice((None, "bicv", "speckled")).read(self.holdout, "holdout")
        if self.init.startswith("nndsvd") and not (self.sample and self.sample_bytes):
            raise OptionError(
                f"init is {self.init!r}, which comes from the rows of the sample, but the sample "
                f"is empty; give sample and sample_bytes more than 0, or init='random'"
            )
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

    @property
    def alphas(self) -> tuple[float, float]:
        """Penalties alpha_W and alpha_H as numbers."""
        return self.alpha_W, self.alpha_W if self.alpha_H == "same" else float(self.alpha_H)

    @property
    def needs_positive(self) -> bool:
        """Whether the divergence is infinite at zeros of V."""
        return self.beta is not None and self.beta <= 0

    @property
    def tempered(self) -> bool:
        """Whether a random start needs more than steps downhill: the divergence is concave."""
        return self.init == "random" and self.beta is not None and self.beta < 1

    @property
    def fixed(self) -> int:
        """Number of first rows of H that are given and stay as they are."""
        return int(self.fixed_H.partition(" ")[0]) if self.fixed_H else 0

    @property
    def in_order(self) -> int:
        """Number of first components that are not sorted in the result, as the others are."""
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
        """Return whether this model's loss is over some of the entries only."""
        return self.masked or (self.holdout == "speckled" and model.fold is not None)

    @property
    def total_k(self) -> int:
        """Components of all models together."""
        return sum(model.k for model in self.models)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> FitConfig:
        known = {one.name for one in fields(cls)}
        if set(value) != known:
            raise OptionError(f"options of another version: {sorted(set(value) ^ known)}")
        models = tuple(ModelSpec(**model) for model in value["models"])
        return cls(**{**value, "models": models})

    def differences(self, other: FitConfig) -> list[str]:
        """Tell, in sentences, the options that differ and may not when a run is resumed."""
        free = {"max_time", "strict_bits"}
        return [
            f"{field.name} was {getattr(self, field.name)!r}, now {getattr(other, field.name)!r}"
            for field in fields(self)
            if field.name not in free and getattr(self, field.name) != getattr(other, field.name)
        ]

    def replace(self, **changes: Any) -> FitConfig:
        return replace(self, **changes)


OPTIONS = {option.name: option for option in fields(FitConfig) if option.metadata}
"""Options of a fit by name: what Python, the command line and the estimator share."""


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
