"""How well rows of V are reconstructed: a part of V is read once more, where it still is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import scipy.sparse as sp

from dnmf.config import MIB
from dnmf.errors import DnmfError
from dnmf.sources import from_spec
from dnmf.sources.base import Source
from dnmf.sources.missing import check_whole

__all__ = ["RowErrors", "row_errors"]

MOST_ROWS = 20_000
MOST_BYTES = 256 * MIB
BLOCK_BYTES = 8 * MIB


@dataclass(frozen=True)
class RowErrors:
    """Errors of rows that were read, or why there are none.

    Attributes
    ----------
    numbers : (m,) int array
        Of the rows.
    errors : (m,) float array
        |v - w H| / |v| of each; NaN for a row of zeros.
    reason : str
        Empty, or why no row was read.
    """

    numbers: np.ndarray
    errors: np.ndarray
    reason: str = ""


def row_errors(fit: Any) -> RowErrors:
    """Reconstruct evenly spaced blocks of rows, up to 20,000 rows and 256 MiB."""
    details, config = fit.details, fit.config
    spec: Mapping[str, Any] | None = details.get("source_spec")
    if not spec or spec.get("kind") in ("in_cluster", "held"):  # held: as 0.1 called it
        return _none("V was only in memory, so no row of it could be read again")
    if config.get("weights") or config.get("missing"):
        return _none("entries are missing or weighted, so rows are not compared as a whole")
    try:
        source = from_spec(spec)
        if source.shape != fit.shape:
            return _none(f"{source.describe()} changed since the fit")
        check_whole(source, config.get("missing_chunks") or "auto")
        return _read(source, fit)
    except DnmfError as error:
        return _none(f"V cannot be read here ({error})")


def _none(reason: str) -> RowErrors:
    return RowErrors(np.empty(0, np.int64), np.empty(0), reason)


def _read(source: Source, fit: Any) -> RowErrors:
    starts = [int(s) for s in source.block_starts(BLOCK_BYTES, source.dtype.itemsize, MOST_ROWS)]
    blocks = list(pairwise(starts))
    size = max(source.block_bytes(a, b) for a, b in blocks)
    if size > MOST_BYTES:
        return _none(f"a block of rows of V takes {size / MIB:,.0f} MiB, too many for a report")
    rows = max(b - a for a, b in blocks)
    most = max(1, min(MOST_BYTES // max(size, 1), MOST_ROWS // rows, len(blocks)))
    H = np.asarray(fit.H, np.float64)
    numbers, errors = [], []
    for place in np.unique(np.linspace(0, len(blocks) - 1, most).astype(int)):
        a, b = blocks[place]
        V = next(iter(source.read_blocks((a, b))))
        numbers.append(np.arange(a, b))
        how = _dense if isinstance(V, np.ndarray) else _sparse
        errors.append(how(V, np.asarray(fit.W[a:b], np.float64), H))
    return RowErrors(np.concatenate(numbers), np.concatenate(errors))


def _dense(V: np.ndarray, W: np.ndarray, H: np.ndarray, nbytes: int = BLOCK_BYTES) -> np.ndarray:
    """Compute errors some rows at a time: a chunk-row may be tall, and its product is float64."""
    step = max(1, nbytes // (8 * V.shape[1]))
    squares, left = np.empty(V.shape[0]), np.empty(V.shape[0])
    for a in range(0, V.shape[0], step):
        some = V[a : a + step].astype(np.float64)
        squares[a : a + step] = np.einsum("ij,ij->i", some, some)
        some -= W[a : a + step] @ H
        left[a : a + step] = np.einsum("ij,ij->i", some, some)
    return _relative(left, squares)


def _sparse(V: sp.csr_array, W: np.ndarray, H: np.ndarray, nbytes: int = BLOCK_BYTES) -> np.ndarray:
    """Compute errors at the stored entries one by one; at the others, zeros, w H is the error."""
    features = np.ascontiguousarray(H.T)
    rows = np.repeat(np.arange(V.shape[0]), np.diff(V.indptr))
    # |w H|^2, from which what falls on stored entries is taken away
    left = np.einsum("ij,ij->i", W @ (H @ features), W)
    squares, nonzero = np.zeros(V.shape[0]), np.zeros(V.shape[0])
    step = max(1, nbytes // (8 * W.shape[1]))
    for a in range(0, V.nnz, step):
        part = slice(a, a + step)
        at, v = rows[part], V.data[part].astype(np.float64)
        fitted = np.einsum("ij,ij->i", W[at], features[V.indices[part]])
        for total, terms in ((squares, v**2), (nonzero, (v - fitted) ** 2), (left, -(fitted**2))):
            total += np.bincount(at, terms, V.shape[0])
    return _relative(np.maximum(left, 0.0) + nonzero, squares)


def _relative(left: np.ndarray, squares: np.ndarray) -> np.ndarray:
    """Divide squared norms of rows and take the root."""
    share = np.divide(left, squares, out=np.full_like(left, np.nan), where=squares > 0)
    return np.asarray(np.sqrt(share))
