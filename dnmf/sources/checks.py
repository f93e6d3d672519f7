"""Checks and texts that every source shares: shape, dtype, size, failures."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dnmf.errors import InputError
from dnmf.values import format_bytes

__all__ = [
    "check_shape",
    "does_not_fit",
    "masked_array",
    "matrix_text",
    "may_pass",
    "native_dtype",
]

_ENDLESS = 2**48

OBJECTS = ": .astype(float), where all of its objects are numbers"


def check_shape(shape: Sequence[int], where: str) -> tuple[int, int]:
    """Return the shape as (n, d), or refuse it.

    Raises
    ------
    InputError
        There are not two dimensions, or one of them is zero or absurd.
    """
    if len(shape) != 2:
        raise InputError(
            f"{where} has {len(shape)} dimension{'' if len(shape) == 1 else 's'} "
            f"(shape {tuple(map(int, shape))}); V must have 2, rows and columns"
        )
    n, d = map(int, shape)
    if not (0 <= n < _ENDLESS and 0 <= d < _ENDLESS):
        raise InputError(
            f"{where} says that it is {n} x {d}, which nothing is; its metadata are damaged"
        )
    if n == 0 or d == 0:
        what = "rows" if n == 0 else "columns"
        raise InputError(
            f"{where} is {n} x {d}: it has no {what}, so there is nothing to factorize"
        )
    return n, d


def masked_array(where: str, name: str = "V") -> InputError:
    """Return the error for a masked array; ``name`` is that of the array in the remedy.

    Weights say by themselves what was not observed.
    """
    remedy = (
        f"{name}.filled(0), since an entry of weight 0 is not observed"
        if name == "weights"
        else f"{name}.astype(float).filled(numpy.nan) with missing='nan' (--missing nan) if masked "
        f"entries were not observed, {name}.filled(0) if they are zeros"
    )
    return InputError(f"{where} is a masked array, whose mask would be lost; fill it: {remedy}")


def native_dtype(dtype: np.dtype, where: str) -> np.dtype:
    """Return the dtype that blocks have: the stored one, in this machine's byte order.

    Raises
    ------
    InputError
        Entries are not real numbers of at most 64 bits.
    """
    if dtype.kind not in "buif" or dtype.itemsize > 8:
        raise InputError(
            f"{where} has dtype {dtype}; V must have real entries: float16, float32, float64, an "
            f"integer type or bool. Convert it first{OBJECTS if dtype.kind == 'O' else ''}"
        )
    return dtype.newbyteorder("=")


def may_pass(error: BaseException) -> bool:
    """Return whether a failure of storage may be gone at the next attempt."""
    for_good = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError)
    return isinstance(error, OSError) and not isinstance(error, for_good)


def matrix_text(
    where: str, shape: tuple[int, int], dtype: np.dtype, layout: str, nbytes: int
) -> str:
    """Return one line for people: where, shape, dtype, layout and size."""
    return f"{where}: {shape[0]} x {shape[1]} {dtype}, {layout}, {format_bytes(nbytes)}"


def does_not_fit(values: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Return which numbers a dtype cannot hold: too large, not whole, or neither 0 nor 1.

    Rounding to a narrower float is fine.
    """
    if dtype.kind == "b":
        return (values != 0) & (values != 1)
    if dtype.kind == "f":
        with np.errstate(over="ignore"):
            return np.isinf(values.astype(dtype)) & ~np.isinf(values)
    limits = np.iinfo(dtype)
    if values.dtype.kind != "f":
        return (values < limits.min) | (values > limits.max)
    # 2**63 and 2**64 are the first floats too large; limits.max itself is no float64
    inside = (values >= float(limits.min)) & (values < float(limits.max + 1))
    return ~(inside & (values == np.trunc(values)))
