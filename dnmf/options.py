"""Names and values that callers may use for the options of a fit."""

from __future__ import annotations

import hashlib
import math
import secrets
from numbers import Real
from typing import Any

import numpy as np

from dnmf.config import FitConfig, ModelSpec, parse_bytes, whole_number
from dnmf.errors import OptionError
from dnmf.init.nndsvd import NNDSVD
from dnmf.losses import ANY_BETA, BETAS, POWERS, loss_names

__all__ = [
    "ALIASES",
    "OPTION_NAMES",
    "fit_config",
    "given_W",
    "given_fixed",
    "given_start",
    "merge_aliases",
]

ALIASES = {
    "k": "n_components",
    "max_passes": "max_iter",
    "seed": "random_state",
}

NUMBERS = ("tol", "max_time", "sample", "alpha_W", "alpha_H", "l1_ratio", "beta")
"""Options that may be numbers of NumPy, and are kept as Python's."""

MOST_ALPHA = 1e12

OPTION_NAMES = (
    "k",
    "n_components",
    "seed",
    "random_state",
    "max_passes",
    "max_iter",
    "tol",
    "max_time",
    "dtype",
    "block_size",
    "max_block",
    "segments",
    "fan_in",
    "slab_size",
    "missing_chunks",
    "sample",
    "sample_bytes",
    "n_init",
    "loss",
    "beta",
    "solver",
    "alpha_W",
    "alpha_H",
    "l1_ratio",
    "missing",
    "weights",
    "normalize",
    "strict_bits",
    "keep_order",
)
"""Arguments of `dnmf.fit` that end in a `FitConfig`, with their other names."""


def merge_aliases(options: dict[str, Any]) -> dict[str, Any]:
    """Fold scikit-learn's names into ours; both at once must agree.

    Raises
    ------
    OptionError
        Two names of one option have different values.
    """
    merged = dict(options)
    for name, alias in ALIASES.items():
        other = merged.pop(alias, None)
        if other is None:
            continue
        if merged.get(name) is not None and merged[name] != other:
            raise OptionError(
                f"{name}={merged[name]!r} and {alias}={other!r} are two names of one option; "
                f"give one of them"
            )
        merged[name] = other
    return merged


def seed_number(seed: Any) -> int:
    """A seed as a whole number; None draws one, a NumPy generator gives one."""
    if seed is None:
        return secrets.randbits(31)
    if isinstance(seed, np.random.RandomState):
        return int(seed.randint(2**31))
    if isinstance(seed, np.random.Generator):
        return int(seed.integers(2**31))
    return whole_number(seed, "seed", 0)


def given_start(init: Any, k: int | None) -> tuple[np.ndarray | None, str, int | None]:
    """Tell a given H from the name of a start.

    Returns
    -------
    H : (k, d) array or None
    name : str
        ``"custom"``, or the name given.
    k : int or None
        Taken from H where it was not given.
    """
    if isinstance(init, str):
        if init not in ("random", *NNDSVD):
            names = ", ".join(map(repr, ("random", *NNDSVD)))
            raise OptionError(f"init is {init!r}; it must be {names} or an array H of k rows")
        return None, init, k
    H = _start(init, "init", "'random' or a real (k, d) H")
    if k is not None and k != H.shape[0]:
        raise OptionError(f"k is {k}, but init has {H.shape[0]} rows")
    return H, "custom", H.shape[0]


def given_W(init_W: Any, H: np.ndarray | None) -> np.ndarray | None:
    """A given start of W, which only helps beside the H that it belongs to.

    Returns
    -------
    (n, k) array or None
    """
    if init_W is None:
        return None
    if H is None:
        raise OptionError("init_W was given without its H: give init, a (k, d) array, too")
    return _start(init_W, "init_W", "a real (n, k) W")


def given_fixed(fixed_H: Any) -> tuple[np.ndarray | None, dict[str, Any]]:
    """Rows of H that are held, and the options that say so.

    Returns
    -------
    fixed : (r, d) array or None
    options : dict
    """
    if fixed_H is None:
        return None, {}
    fixed = _start(fixed_H, "fixed_H", "real (r, d) rows of H")
    empty = np.flatnonzero(~fixed.any(axis=1))
    if empty.size or not fixed.size:
        which = f"row {empty[0]} of fixed_H is all zeros" if fixed.size else "fixed_H has no entry"
        raise OptionError(f"{which}: it would stay so; leave it out")
    digest = hashlib.sha256(np.ascontiguousarray(fixed, np.float64).tobytes()).hexdigest()[:16]
    return fixed, {"fixed_H": f"{len(fixed)} {digest}"}


def _start(value: Any, name: str, what: str) -> np.ndarray:
    X = np.asarray(value)
    if X.ndim != 2 or X.dtype.kind not in "fiub":
        raise OptionError(f"{name} has shape {X.shape} and dtype {X.dtype}; it must be {what}")
    if not np.all(np.isfinite(X)) or X.min(initial=0) < 0:
        raise OptionError(
            f"{name} has entries that are negative or not finite; they must be 0 or more"
        )
    return X


def divergence(loss: str | float | None, beta: float | None) -> dict[str, Any]:
    """``loss`` and ``beta`` as the registry of losses knows them.

    ``loss`` may be a number, which is beta; the betas that have a name get their loss. Neither is
    least squares.

    Raises
    ------
    OptionError
        The two name different divergences.
    """
    if loss is None:
        loss = FitConfig.loss if beta is None else ANY_BETA
    if not isinstance(loss, str) and (isinstance(loss, bool) or not isinstance(loss, Real)):
        names = ", ".join(repr(name) for name in loss_names() if name != ANY_BETA)
        raise OptionError(f"loss is {loss!r}; it must be one of {names}, or a number, its beta")
    number = None if isinstance(loss, str) else float(loss)
    if number is not None:
        if beta not in (None, number):
            raise OptionError(f"loss is {loss!r} and beta is {beta!r}; give one of them")
        loss, beta = ANY_BETA, number
    assert isinstance(loss, str)
    named = BETAS.get(loss)
    if beta is None:
        if loss == ANY_BETA:
            raise OptionError("loss is 'beta', but beta was not given")
        return {"loss": loss, "beta": named if loss in POWERS else None}
    if isinstance(beta, bool) or not isinstance(beta, Real) or not math.isfinite(beta):
        raise OptionError(f"beta is {beta!r}; it must be one finite number")
    if named is None and loss != ANY_BETA:
        raise OptionError(
            f"loss is {loss!r}, which has no beta, but beta is {beta!r}; leave it out"
        )
    if named is None:
        for name, number in BETAS.items():
            if number == beta:
                return divergence(name, None)
        return {"loss": ANY_BETA, "beta": float(beta)}
    if beta != named:
        raise OptionError(f"loss {loss!r} has beta = {named:g}, but beta is {beta!r}")
    return divergence(loss, None)


def dtype_name(dtype: Any) -> str:
    """The name of a dtype, whatever names it; what is none stays, for the error."""
    try:
        return np.dtype(dtype).name
    except TypeError:
        return str(dtype)


def _check_starts(config: FitConfig, asked: int) -> None:
    """Refuse more starts than one where there is no choice of them."""
    if asked == 1:
        return
    if config.init != "random":
        raise OptionError(
            f"n_init is {asked}, but init is {config.init!r}, which is one start; give one of them"
        )
    if not (config.sample and config.sample_bytes):
        raise OptionError(
            f"n_init is {asked}, but starts search on the sample, and sample is {config.sample} "
            f"(sample_bytes {config.sample_bytes}); give n_init=1, or a sample"
        )


def fit_config(options: dict[str, Any], init: str) -> FitConfig:
    """The frozen options of a fit; options that are None keep their defaults."""
    values = {name: value for name, value in options.items() if value is not None}
    k = values.pop("k", None)
    if k is None:
        raise OptionError("k, the number of components, was not given")
    model = ModelSpec(whole_number(k, "k", 1), seed_number(values.pop("seed", None)))
    for name in NUMBERS:
        if isinstance(values.get(name), np.generic):
            values[name] = values[name].item()
    for name in ("block_size", "max_block", "slab_size", "sample_bytes"):
        if name in values:
            least = 0 if name == "sample_bytes" else 1  # no sample
            values[name] = parse_bytes(values[name], name, least)
    for name in ("max_passes", "segments", "fan_in", "n_init"):
        if name in values:
            values[name] = whole_number(values[name], name, 1)
    values["weights"] = "weights" in values and values["weights"] is not False
    if "dtype" in values:
        values["dtype"] = dtype_name(values["dtype"])
    values.update(divergence(values.get("loss"), values.get("beta")))
    config = FitConfig(models=(model,), init=init, **values)
    _check_starts(config, values.get("n_init", 1))
    if config.keep_order and init != "custom":
        raise OptionError(
            f"keep_order was asked for, but init is {init!r}: only an array has an order to keep"
        )
    if max(config.alphas) > MOST_ALPHA:
        raise OptionError(
            f"alpha_W or alpha_H is {max(config.alphas):g}; with more than {MOST_ALPHA:g} nothing "
            f"but zeros is left, and products overflow"
        )
    return config
