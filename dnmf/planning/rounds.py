"""Whether a fit alternates on a compressed V between two reads, and what a round is worth."""

from __future__ import annotations

from dataclasses import dataclass

from dnmf.config import FitConfig
from dnmf.planning.limits import RoundLimits

__all__ = ["Rounds", "choose_rounds"]

READ, PRODUCTS, SPARSE, SWEEPS = 1e9, 2e10, 3e9, 4e9
"""Bytes of V that are read and decoded in a second, wherever V lies, and operations in a second: of
products by BLAS, of products with a sparse V, of sweeps over W. Only their proportions matter."""

SWEEPS_OF_A_PASS, SWEEPS_OF_A_ROUND = 4, 4
"""Sweeps that a row of W takes, about."""


@dataclass(frozen=True)
class Rounds:
    """The rounds between two reads of V.

    Attributes
    ----------
    most : int
        Most rounds; 0: none.
    span : int
        Rows of the basis for each component: of H, and of W'V of so many passes but one.
    price : float
        What a round takes, as a share of a pass with its read.
    why_none : str
        Why there are none, for people; empty where there are, or nobody could expect some.
    """

    most: int = 0
    span: int = 0
    price: float = 0.0
    why_none: str = ""


def choose_rounds(
    config: FitConfig,
    compresses: bool,
    shape: tuple[int, int],
    item: int,
    entries: int | None,
    bytes_read: int,
    limits: RoundLimits,
) -> Rounds:
    """Decide on rounds: a function of the data and the options only.

    Parameters
    ----------
    config : FitConfig
    compresses : bool
        The loss has a compressed model of V.
    shape : (int, int)
        Rows and columns of V as it is read.
    item : int
        Bytes of an entry in the dtype to compute in.
    entries : int or None
        Stored entries of a sparse V.
    bytes_read : int
        Bytes of V.
    limits : RoundLimits
    """
    if config.rounds == 0:
        return Rounds()
    n, d = shape
    ks = [model.k for model in config.models if model.fold is None]
    if not compresses or not ks:
        loss = f"loss {config.loss!r}" + (
            f" with solver {config.solver!r}" if config.solver else ""
        )
        missing = "entries that are missing or have weights"
        return Rounds(why_none=f"not for {missing if config.masked else loss}")
    k, total = max(ks), sum(ks)
    span = 1 + limits.spans
    if k * span > limits.widest * d:
        return Rounds(why_none=f"{d:,} columns are too few for k = {k}: a round would be a pass")
    held = n * item * (max(ks) * (span + 2))
    while held > limits.most_bytes and span > 2:
        span -= 1
        held = n * item * (k * (span + 2))
    if held > limits.most_bytes:
        return Rounds(
            why_none=f"the compressed V and W of k = {k} would take {held / 1e9:.1f} GB of one "
            f"worker's memory, more than {limits.most_bytes / 1e9:.1f} GB"
        )
    price = _price(n, d, total, span, entries, bytes_read)
    if price > limits.dearest and config.rounds is None:
        return Rounds(why_none=f"one would take {price:.0%} of a pass with its read")
    most = limits.most if config.rounds is None else config.rounds
    return Rounds(most, span, price)


def _price(n: int, d: int, k: int, span: int, entries: int | None, bytes_read: int) -> float:
    """Return what a round takes as a share of a pass."""
    r = k * span
    if entries is None:
        products = 2.0 * n * d * (r + k) / PRODUCTS
    else:
        products = 2.0 * entries * (r + k) / SPARSE
    a_pass = bytes_read / READ + products + n * (2.0 * k * k * SWEEPS_OF_A_PASS) / SWEEPS
    of_rows = n * (2.0 * k * k * SWEEPS_OF_A_ROUND / SWEEPS + (4.0 * r * k + 2 * k * k) / PRODUCTS)
    of_columns = d * (2.0 * k * k * SWEEPS_OF_A_ROUND / SWEEPS + 4.0 * r * k / PRODUCTS)
    return (of_rows + of_columns) / a_pass
