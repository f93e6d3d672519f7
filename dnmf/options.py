"""The options of a fit, as callers may name and give them, turned into a `FitConfig`."""

from __future__ import annotations

import hashlib
import math
import secrets
from collections.abc import Mapping
from numbers import Real
from typing import Any

import numpy as np

from dnmf.config import OPTIONS, FitConfig, ModelSpec
from dnmf.errors import OptionError
from dnmf.fitting.starts.given import Given
from dnmf.init.nndsvd import NNDSVD
from dnmf.losses import ANY_BETA, BETAS, POWERS, loss_names
from dnmf.sources.missing import read_given
from dnmf.values import whole_number

__all__ = ["ALIASES", "OPTION_NAMES", "asked", "dtype_name", "fit_config", "merge_aliases"]

ALIASES = {
    "k": "n_components",
    "max_passes": "max_iter",
    "seed": "random_state",
}

MOST_ALPHA = 1e12

OPTION_NAMES = (*OPTIONS, "k", "seed", *ALIASES.values(), "loss", "init", "init_W", "fixed_H")
"""Arguments of `dnmf.fit` that end in a `FitConfig` and the arrays beside it."""


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


def _seed_number(seed: Any) -> int:
    """Turn a seed into a whole number; None draws one, a NumPy generator gives one."""
    if seed is None:
        return secrets.randbits(31)
    if isinstance(seed, np.random.RandomState):
        return int(seed.randint(2**31))
    if isinstance(seed, np.random.Generator):
        return int(seed.integers(2**31))
    return whole_number(seed, "seed", 0)


def asked(options: Mapping[str, Any]) -> tuple[FitConfig, Given]:
    """Turn what a caller gave for `OPTION_NAMES` into frozen options and given arrays.

    Options that are None, or are not there, have their defaults. Names are those that
    `merge_aliases` leaves.

    Raises
    ------
    OptionError
        A value is impossible, or two options contradict each other.
    """
    values = dict(options)
    for name in ("init", "init_W", "fixed_H"):
        values[name] = _read(values.get(name), name, values.get("missing_chunks"))
    init = values.pop("init")
    H, init, values["k"] = _given_start("random" if init is None else init, values.get("k"))
    W = _given_W(values.pop("init_W"), H)
    fixed = _given_fixed(values.pop("fixed_H"))
    if fixed is not None:
        digest = hashlib.sha256(np.ascontiguousarray(fixed, np.float64).tobytes()).hexdigest()
        values["fixed_H"] = f"{len(fixed)} {digest[:16]}"
    return fit_config(values, init), Given(H, W, fixed)


def _read(given: Any, name: str, how: str | None) -> Any:
    """Read an array that was given to start from; a word, or None, stays."""
    return given if given is None or isinstance(given, str) else read_given(given, name, how)


def _given_start(init: Any, k: int | None) -> tuple[np.ndarray | None, str, int | None]:
    """Tell a given H from the name of a start: H or None, the name, and k."""
    if isinstance(init, str):
        if init not in ("random", *NNDSVD):
            names = ", ".join(map(repr, ("random", *NNDSVD)))
            raise OptionError(f"init is {init!r}; it must be {names} or an array H of k rows")
        return None, init, k
    H = _start(init, "init", "'random' or a real (k, d) H")
    if k is not None and k != H.shape[0]:
        raise OptionError(f"k is {k}, but init has {H.shape[0]} rows")
    return H, "custom", H.shape[0]


def _given_W(init_W: Any, H: np.ndarray | None) -> np.ndarray | None:
    """Check a given start of W, which only helps beside the H that it belongs to."""
    if init_W is None:
        return None
    if H is None:
        raise OptionError("init_W was given without its H: give init, a (k, d) array, too")
    return _start(init_W, "init_W", "a real (n, k) W")


def _given_fixed(fixed_H: Any) -> np.ndarray | None:
    """Check rows of H that are given and stay as they are."""
    if fixed_H is None:
        return None
    fixed = _start(fixed_H, "fixed_H", "real (r, d) rows of H")
    empty = np.flatnonzero(~fixed.any(axis=1))
    if empty.size or not fixed.size:
        which = f"row {empty[0]} of fixed_H is all zeros" if fixed.size else "fixed_H has no entry"
        raise OptionError(f"{which}: it would stay so; leave it out")
    return fixed


def _start(value: Any, name: str, what: str) -> np.ndarray:
    X = np.asarray(value)
    if X.ndim != 2 or X.dtype.kind not in "fiub":
        raise OptionError(f"{name} has shape {X.shape} and dtype {X.dtype}; it must be {what}")
    if not np.all(np.isfinite(X)) or X.min(initial=0) < 0:
        raise OptionError(
            f"{name} has entries that are negative or not finite; they must be 0 or more"
        )
    return X


def _divergence(loss: str | float | None, beta: float | None) -> dict[str, Any]:
    """Turn ``loss`` and ``beta`` into what the registry of losses knows.

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
                return _divergence(name, None)
        return {"loss": ANY_BETA, "beta": float(beta)}
    if beta != named:
        raise OptionError(f"loss {loss!r} has beta = {named:g}, but beta is {beta!r}")
    return _divergence(loss, None)


def dtype_name(dtype: Any) -> str:
    """Return the name of a dtype; what is none stays, for the error."""
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
    """Freeze the options of a fit; those that are None keep their defaults."""
    values = {name: value for name, value in options.items() if value is not None}
    k = values.pop("k", None)
    if k is None:
        raise OptionError("k, the number of components, was not given")
    model = ModelSpec(whole_number(k, "k", 1), _seed_number(values.pop("seed", None)))
    values["weights"] = "weights" in values and values["weights"] is not False
    if "dtype" in values:
        values["dtype"] = dtype_name(values["dtype"])
    values.update(_divergence(values.get("loss"), values.get("beta")))
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
