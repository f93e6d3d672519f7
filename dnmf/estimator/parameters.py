"""What the parameters of `NMF` may be; what this version refuses by name."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from numbers import Real
from typing import Any

import numpy as np
from sklearn.utils.validation import check_array

from dnmf.errors import OptionError
from dnmf.options import dtype_name
from dnmf.sources.missing import read_given
from dnmf.values import whole_number

__all__ = ["LATER", "check_parameters", "seed_of", "solver_of", "start_of"]

LATER: tuple[tuple[str, Callable[[Any], bool], str], ...] = (
    ("shuffle", bool, "a fixed order of coordinates makes results reproducible; leave it at False"),
)
"""Values of scikit-learn's that are refused: parameter, which values, what to use instead."""

CHOICES: dict[str, tuple[Any, ...]] = {
    "solver": ("cd", "mu", "auto"),
    "init": (None, "random", "nndsvd", "nndsvda", "nndsvdar", "custom"),
    "missing": (None, "nan", "zeros"),
    "missing_chunks": ("auto", "fill", "error"),
}


def check_parameters(given: Mapping[str, Any]) -> None:
    """Refuse what dnmf does not have (yet), and what nobody has.

    Parameters
    ----------
    given : mapping
        The parameters of `NMF` by name.

    Raises
    ------
    OptionError
        The message names the parameter, its value and what it may be.
    """
    for name in ("tol", "alpha_W", "l1_ratio", "alpha_H", "clip"):
        if not (name == "alpha_H" and isinstance(given[name], str) and given[name] == "same"):
            _check_number(name, given[name])
    for name, refused, remedy in LATER:
        if refused(given[name]):
            raise OptionError(_not_yet(name, given[name], remedy))
    for name, values in CHOICES.items():
        value = given[name]
        if not (value is None or isinstance(value, str)) or value not in values:
            known = ", ".join(map(repr, values))
            array = name == "init" and np.ndim(value) > 0
            remedy = ". For an array use init='custom' and give it to fit as H" if array else ""
            raise OptionError(f"{name} is {value!r}; it must be one of {known}{remedy}")
    beta_loss = given["beta_loss"]
    if isinstance(beta_loss, bool) or not isinstance(beta_loss, str | Real):
        raise OptionError(f"beta_loss is {beta_loss!r}; it must be a name or a number")
    if given["solver"] == "cd" and beta_loss not in ("frobenius", 2):
        raise OptionError(
            f"Invalid beta_loss parameter: solver 'cd' does not handle beta_loss = "
            f"{beta_loss!r}; solver='auto' does, in few passes, and solver='mu' by the "
            f"classic multiplicative rules"
        )
    if given["dtype"] is not None and dtype_name(given["dtype"]) not in ("float32", "float64"):
        name = dtype_name(given["dtype"])
        raise OptionError(f"dtype is {name!r}; it must be one of None, float32, float64")
    if given["l1_ratio"] > 1:
        raise OptionError(f"l1_ratio is {given['l1_ratio']}; it must be between 0 and 1")
    if given["n_components"] not in ("auto", None):
        whole_number(given["n_components"], "n_components", 1)
    whole_number(given["max_iter"], "max_iter", 1)
    whole_number(given["n_init"], "n_init", 1)
    if not isinstance(given["verbose"], bool):
        whole_number(given["verbose"], "verbose", 0)


def _not_yet(name: str, value: Any, remedy: str) -> str:
    return f"{name}={value!r} is not in this version of dnmf: {remedy}"


def _check_number(name: str, value: Any) -> None:
    real = isinstance(value, Real) and not isinstance(value, bool)
    if not real or not 0 <= float(value) < np.inf:
        raise OptionError(f"{name} is {value!r}; it must be a finite number, 0 or more")


def solver_of(solver: str) -> str | None:
    """Turn ``solver`` into that of `dnmf.fit`; None is the loss's own."""
    return {"cd": "hals", "mu": "mu", "auto": None}[solver]


def seed_of(random_state: Any) -> Any:
    """Turn the module ``numpy.random`` into NumPy's global generator, as scikit-learn does."""
    return np.random.mtrand._rand if random_state is np.random else random_state


def start_array(given: Any, name: str, missing_chunks: str) -> np.ndarray:
    """Check that a given start of W or H is finite, non-negative and not all zeros."""
    array: np.ndarray = check_array(read_given(given, name, missing_chunks), input_name=name)
    if array.min() < 0:
        raise OptionError(
            f"Negative values in data passed to NMF (input {name}): the smallest is {array.min():g}"
        )
    if array.max() == 0:
        raise OptionError(f"Array passed to NMF (input {name}) is full of zeros.")
    return array


def check_shape(given: np.ndarray, shape: tuple[int, int], name: str) -> None:
    """Refuse a start of another shape, in scikit-learn's words."""
    for which, expected, found in zip(("first", "second"), shape, given.shape, strict=True):
        if found != expected:
            raise OptionError(
                f"Array with wrong {which} dimension passed to NMF (input {name}). Expected "
                f"{expected}, but got {found}."
            )


def start_of(
    model: Any, shape: tuple[int, int], dtype: np.dtype, W: Any, H: Any
) -> tuple[int, Any, np.ndarray | None]:
    """Return k, and the arguments ``init`` and ``init_W`` of `dnmf.fit`."""
    n, d = shape
    k = d if model.n_components in ("auto", None) else int(model.n_components)
    if model.init != "custom":
        if W is not None or H is not None:
            warnings.warn(
                "When init!='custom', provided W or H are ignored. Set init='custom' to use "
                "them as initialization.",
                RuntimeWarning,
                stacklevel=4,
            )
        return k, model.init or "random", None
    if H is None:
        raise OptionError("init='custom' needs H (k x d), and may take W (n x k); H is missing")
    H = start_array(H, "H", model.missing_chunks)
    if model.n_components == "auto":
        k = H.shape[0]
    check_shape(H, (k, d), "H")
    if W is not None:
        W = start_array(W, "W", model.missing_chunks)
        check_shape(W, (n, k), "W")
    if any(given is not None and given.dtype != dtype for given in (H, W)):
        raise TypeError(
            f"H and W should have the same dtype as X. Got H.dtype = {H.dtype} and "
            f"W.dtype = {None if W is None else W.dtype}; dnmf computes in {dtype}"
        )
    return k, H, W
