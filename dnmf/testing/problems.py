"""Matrices whose factorization is known, for tests of losses, solvers and executors.

Every function returns the same `Problem` for the same arguments on every machine and modifies
nothing; the arrays of a problem are read-only.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from dnmf.sources.base import Matrix

__all__ = [
    "EXACT_PROBLEMS",
    "Problem",
    "baskets",
    "exact_low_rank",
    "planted_poisson",
    "power_law_counts",
    "separable",
    "six_by_two",
    "with_zero_rows_and_columns",
]


@dataclass(frozen=True)
class Problem:
    """A matrix and what is known about its factorization.

    Attributes
    ----------
    name : str
        Names the problem and its arguments; good for test ids.
    V : (n, d) array or CSR array
        Non-negative.
    k : int
        Components that the problem is about.
    W : (n, k) array, optional
    H : (k, d) array, optional
        A factorization that V was made from.
    exact : bool
        Whether V = W H up to the rounding of V's dtype.
    unique : bool
        Whether every exact factorization with k components equals W H up to the order and the
        scale of the components.
    tolerance : float or None
        Largest absolute error of an entry of W H that a converged fit with k components may
        leave; None where no fit is exact.
    """

    name: str
    V: Matrix
    k: int
    W: np.ndarray | None = None
    H: np.ndarray | None = None
    exact: bool = False
    unique: bool = False
    tolerance: float | None = None

    def __post_init__(self) -> None:
        V = self.V
        parts = (V,) if isinstance(V, np.ndarray) else (V.data, V.indices, V.indptr)
        for array in (*parts, self.W, self.H):
            if array is not None:
                array.flags.writeable = False

    @property
    def dense(self) -> np.ndarray:
        """V as an (n, d) array."""
        return self.V if isinstance(self.V, np.ndarray) else self.V.toarray()


def six_by_two() -> Problem:
    """Return the example of scikit-learn's documentation of NMF: 6 x 2, k = 2."""
    V = np.array([[1, 1], [2, 1], [3, 1.2], [4, 1], [5, 0.8], [6, 1]])
    return Problem("six_by_two", V, 2, W=V.copy(), H=np.eye(2), exact=True, tolerance=2e-3)


def baskets() -> Problem:
    """Return six baskets of a shop by four goods, k = 3: the last two goods are always alike."""
    V = np.array(
        [[1, 1, 2, 2], [1, 0, 0, 0], [1, 1, 1, 1], [1, 0, 1, 1], [0, 1, 3, 3], [1, 1, 0, 0]],
        dtype=float,
    )
    H = np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 1]], dtype=float)
    return Problem("baskets", V, 3, W=V[:, :3].copy(), H=H, exact=True, tolerance=1e-3)


def separable(n: int = 60, d: int = 40, k: int = 5, seed: int = 0) -> Problem:
    """Make a matrix of rank k with exactly one non-negative factorization (float64).

    W has k rows, and H has k columns, that form a diagonal matrix with positive entries. Let
    V = W' H' be another factorization. Because rank V = k, W' = W Q and H' = Q^-1 H with an
    invertible Q. The diagonal rows of W make Q >= 0, the diagonal columns of H make
    Q^-1 >= 0, and a matrix that is non-negative together with its inverse is a permutation
    times a positive diagonal.
    """
    if min(n, d) < k:
        raise ValueError(f"n and d must be at least k = {k}, not {n} and {d}")
    rng = np.random.default_rng([seed, n, d, k])
    W, H = rng.gamma(1.0, size=(n, k)), rng.gamma(1.0, size=(k, d))
    W[rng.choice(n, k, replace=False)] = np.diag(1 + rng.random(k))
    H[:, rng.choice(d, k, replace=False)] = np.diag(1 + rng.random(k))
    V = W @ H
    name = f"separable-{n}x{d}-k{k}-seed{seed}"
    return Problem(name, V, k, W, H, exact=True, unique=True, tolerance=0.05 * float(V.max()))


def exact_low_rank(n: int = 50, d: int = 30, k: int = 4, seed: int = 0) -> Problem:
    """Make W H of exactly rank k in float32: |V|^2 - 2 <V H', W> + <W'W, H H'> is noise."""
    rng = np.random.default_rng([seed, n, d, k, 1])
    W = rng.gamma(2.0, size=(n, k)).astype(np.float32)
    H = rng.gamma(2.0, size=(k, d)).astype(np.float32)
    V = W @ H
    name = f"exact-{n}x{d}-k{k}-seed{seed}"
    return Problem(name, V, k, W, H, exact=True, tolerance=0.05 * float(V.max()))


def planted_poisson(
    n: int = 300, d: int = 120, k: int = 6, seed: int = 0, mean: float = 3.0, dtype: str = "float32"
) -> Problem:
    """Draw counts from Poisson(W H), whose entries have the given mean."""
    rng = np.random.default_rng([seed, n, d, k, 2])
    W, H = rng.gamma(0.5, size=(n, k)), rng.gamma(0.5, size=(k, d))
    W *= mean / float(np.mean(W @ H))
    V = rng.poisson(W @ H).astype(dtype)
    return Problem(f"poisson-{n}x{d}-k{k}-seed{seed}-{dtype}", V, k, W, H)


def with_zero_rows_and_columns(n: int = 40, d: int = 25, k: int = 3, seed: int = 0) -> Problem:
    """Make an exact product whose first, last and some other rows and columns are zero."""
    rng = np.random.default_rng([seed, n, d, k, 3])
    W, H = rng.gamma(1.0, size=(n, k)), rng.gamma(1.0, size=(k, d))
    W[[0, n // 3, n // 3 + 1, n - 1]] = 0
    H[:, [0, d // 2, d - 1]] = 0
    V = W @ H
    name = f"zeros-{n}x{d}-k{k}-seed{seed}"
    return Problem(name, V, k, W, H, exact=True, tolerance=0.05 * float(V.max()))


def power_law_counts(
    n: int = 500, d: int = 200, k: int = 8, seed: int = 0, per_row: float = 12.0
) -> Problem:
    """Draw counts like words in documents: few columns hold most entries (CSR, int32).

    Draws about ``per_row`` events per row from k topics over columns whose popularity falls
    as 1 / rank. Has empty rows and, where d is large, empty columns.
    """
    rng = np.random.default_rng([seed, n, d, k, 4])
    popularity = rng.permutation(1.0 / np.arange(1, d + 1))
    H = rng.gamma(0.2, size=(k, d)) * popularity
    H /= H.sum(axis=1, keepdims=True)
    W = rng.dirichlet(np.full(k, 0.3), size=n) * rng.gamma(0.7, per_row / 0.7, size=(n, 1))
    W[:: max(2, n // 5)] = 0
    topics = rng.poisson(W)
    rows = np.repeat(np.repeat(np.arange(n), k), topics.ravel())
    topic = np.repeat(np.tile(np.arange(k), n), topics.ravel())
    cumulative = np.cumsum(H, axis=1)
    columns = np.empty(len(rows), dtype=np.int64)
    for t in range(k):
        at = topic == t
        columns[at] = np.searchsorted(cumulative[t] / cumulative[t, -1], rng.random(at.sum()))
    V = sp.csr_array((np.ones(len(rows), np.int32), (rows, columns)), shape=(n, d))
    V.sum_duplicates()
    return Problem(f"counts-{n}x{d}-k{k}-seed{seed}", V, k, W, H)


EXACT_PROBLEMS: dict[str, Callable[[], Problem]] = {
    "six_by_two": six_by_two,
    "baskets": baskets,
    "separable": separable,
    "exact_low_rank": exact_low_rank,
    "with_zero_rows_and_columns": with_zero_rows_and_columns,
}
"""Problems at their default sizes that a fit with k components reproduces to ``tolerance``."""
