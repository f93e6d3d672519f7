"""Least squares between two reads: alternation on V as far as H can feel it nearby.

A pass at H gives W, W'W and W'V, and with the orthonormal rows of a basis B (r, d) also Y = V B',
(n, r). Until V is read again ::

    minimise  1/2 |Y B - W H|^2 - <C, H>   over W, H >= 0,     C = W'V - (W'Y) B

stands for the objective. C is what the model does not see of the gradient, so that at W its value
for every H is that of the objective: a fixed point of the model is one of the objective, and only
the curvature in directions that B lacks is wrong. One alternation on it is a *round*. A round costs
about 12 n k^2 multiplications, however many columns V has.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Protocol

import numpy as np

from dnmf.linalg.hals import solve_rows
from dnmf.linalg.products import gram
from dnmf.losses.base import Loss
from dnmf.losses.least_squares import ridged
from dnmf.losses.limits import LossLimits

__all__ = ["Alternation", "RoundSums", "RoundsEnd", "basis", "solve_round"]

BLOCK_ROWS = 1 << 15
"""Rows of Y whose products are formed at once."""


class Each(Protocol):
    """``map``, or a function like it that makes its calls side by side; results keep the order."""

    def __call__(self, call: Callable[[Any], Any], items: Sequence[Any], /) -> Iterable[Any]: ...


def basis(H: np.ndarray, earlier: Sequence[np.ndarray]) -> np.ndarray:
    """Return orthonormal rows that span H and what earlier passes pulled H to.

    Parameters
    ----------
    H : (k, d) array
    earlier : sequence of (k, d) array
        W'V of the passes before, the last one first.

    Returns
    -------
    (r, d) float64 array
        r is k for each of them together, or d if that is less.
    """
    rows = np.concatenate([_unit_rows(X) for X in (H, *earlier)])
    return np.ascontiguousarray(np.linalg.qr(rows.T)[0].T)


def _unit_rows(X: np.ndarray) -> np.ndarray:
    X = X.astype(np.float64)
    peaks = np.abs(X).max(axis=1, keepdims=True, initial=0.0)
    X /= np.where(peaks > 0, peaks, 1.0)  # squares of tiny or huge numbers leave the range
    norms = np.sqrt(np.sum(X * X, axis=1, keepdims=True))
    return np.asarray(X / np.where(norms > 0, norms, 1.0))


@dataclass
class RoundSums:
    """Sums of one round over rows of W.

    Attributes
    ----------
    WtW : (k, k) float64 array
    WtY : (k, r) float64 array
    sums : (k,) float64 array
        Sums of W's columns.
    """

    WtW: np.ndarray
    WtY: np.ndarray
    sums: np.ndarray

    @classmethod
    def zero(cls, k: int, r: int) -> RoundSums:
        return cls(np.zeros((k, k)), np.zeros((k, r)), np.zeros(k))

    def add(self, other: RoundSums) -> None:
        """Add ``other``, whose rows come after these."""
        self.WtW += other.WtW
        self.WtY += other.WtY
        self.sums += other.sums

    def scaled(self, by: np.ndarray) -> RoundSums:
        """Return the sums of W with its columns multiplied by these numbers."""
        return RoundSums(self.WtW * by * by[:, None], self.WtY * by[:, None], self.sums * by)


def solve_round(
    loss: Loss,
    W: np.ndarray,
    Y: np.ndarray,
    BHt: np.ndarray | None,
    G: np.ndarray,
    row_sumsq: np.ndarray,
) -> RoundSums:
    """Improve rows of W in place at one H, and sum.

    Parameters
    ----------
    loss : Loss
        One that ``compresses``.
    W : (m, k) array
        Its dtype is that of the computation.
    Y : (m, r) array
    BHt : (r, k) array or None
        B H' of this H; None leaves W as it is.
    G : (k, k) float64 array
        H H' of this H.
    row_sumsq : (m,) float64 array
        |v|^2 of the rows.
    """
    limits, penalties = loss.limits, loss.penalties
    total, ridge = RoundSums.zero(W.shape[1], Y.shape[1]), ridged(G, penalties.l2_W)
    for a in range(0, W.shape[0], BLOCK_ROWS):
        some, of_V = W[a : a + BLOCK_ROWS], Y[a : a + BLOCK_ROWS].astype(W.dtype, copy=False)
        if BHt is not None:
            solve_rows(
                some,
                of_V @ BHt.astype(W.dtype),
                ridge,
                row_sumsq[a : a + BLOCK_ROWS],
                tau=limits.round_tau,
                l1=penalties.l1_W,
                max_sweeps=limits.round_sweeps,
            )
        sums = np.asarray(np.sum(some, axis=0, dtype=np.float64))
        total.add(RoundSums(gram(some), some.T @ of_V, sums))
    return total


@dataclass(frozen=True)
class RoundsEnd:
    """What rounds made of H.

    Attributes
    ----------
    H : (k, d) float64 array
    rounds : int
    started, objective : float
        Of the model at W and H of the pass, and what it predicts for this H.
    rest : float
        How much lower the objective of the model would still become, by its last decreases.
    """

    H: np.ndarray
    rounds: int
    started: float
    objective: float
    rest: float


@dataclass
class Alternation:
    """Rounds on the compressed V of one pass.

    Attributes
    ----------
    loss : Loss
        One that ``compresses``.
    H, next_H : (k, d) float64 array
        Of the pass, and after its H-step.
    B : (r, d) float64 array
    WtV : (k, d) float64 array
        W'V of the pass, which has the correction C added to the model.
    sums : RoundSums
        Of W of the pass. The model has no minimum along the scale of W's columns, as <C, H> is
        linear: rounds hold their norms.
    sumsq : float or None
        |V|^2. None where V is completed (`dnmf.losses.completion`): then it is whatever
        makes the model's objective at W and H that of the pass.
    columns : (d,) float64 array
        Sums of squares of V's columns.
    each : callable
        Runs parts of the H-step.
    part_bytes : int
        Bytes of H, float64, in one part.
    exact : float
        The objective of the pass.
    objective : float
        Of the model, at W and H of the pass.
    """

    loss: Loss
    H: np.ndarray
    next_H: np.ndarray
    B: np.ndarray
    WtV: np.ndarray
    sums: RoundSums
    sumsq: float | None
    columns: np.ndarray
    each: Each = map
    part_bytes: int = 1 << 20
    exact: float = 0.0
    objective: float = field(init=False)
    _C: np.ndarray = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.B = self.B * (self.columns > 0)  # H stays 0 where V has nothing
        self._C = self.WtV - self.sums.WtY @ self.B
        if self.sumsq is None:
            self.sumsq = 0.0
            self.sumsq = 2.0 * (self.exact - self._objective(self.sums, self.WtV, self.H))
        self.objective = self._objective(self.sums, self.WtV, self.H)

    def run(
        self,
        solve: Callable[[np.ndarray, np.ndarray, np.ndarray], RoundSums],
        most: int,
        price: float,
    ) -> RoundsEnd:
        """Alternate until a round is worth little.

        Parameters
        ----------
        solve : callable
            Takes B H', H H' and numbers that W's columns are multiplied with first; improves all
            rows of W, and returns their sums.
        most : int
            Most rounds.
        price : float
            What a round takes, as a share of a pass over V with its read.
        """
        step = _Extrapolation(self.next_H, self.loss.limits)
        y, kept, scale = self.next_H.copy(), self.next_H, np.ones(len(self.H))
        best, gains, end = self.objective, list[float](), self.objective
        used, refused = 0, False
        for used in range(1, most + 1):
            sums = solve(self.B @ y.T, y @ y.T, scale)
            scale = self._same_norms(sums)
            sums = sums.scaled(scale)
            y /= scale[:, None]
            step.last = step.last / scale[:, None]
            T = sums.WtY @ self.B + self._C
            now = self._objective(sums, T, y)
            if not now <= best:
                if used == 1:  # not even what the H-step promised
                    return RoundsEnd(self.next_H, 0, self.objective, self.objective, 0.0)
                if refused:  # without going further, too: rounding hides what there is to gain
                    break
                step.too_far()
                y, refused = kept.copy(), True
                continue
            refused = False
            gains.append(best - now)
            best = now
            kept, gain = self._h_step(sums, T, y)
            end = now - gain
            if self._left_basis(kept) or _little(gains, used, price, self.loss.limits):
                break
            y = step.further(kept)
        return RoundsEnd(kept, used, self.objective, end, _rest(gains, self.loss.limits))

    def _left_basis(self, H: np.ndarray) -> bool:
        """Return whether so much of H is in no direction of the basis that the model errs.

        Where H went far into columns that the sample lacks, rounds promised 7% and brought a rise.
        """
        inside = H @ self.B.T
        outside = 1.0 - float(np.sum(inside * inside)) / max(float(np.sum(H * H)), TINY)
        return outside > self.loss.limits.round_outside

    def _same_norms(self, sums: RoundSums) -> np.ndarray:
        """Return what brings the columns of W to the norms that they had in the pass."""
        norms, wanted = np.sqrt(np.diag(sums.WtW)), np.sqrt(np.diag(self.sums.WtW))
        some = (norms > 0) & (wanted > 0)
        some[: self.loss.fixed] = False
        return np.where(some, wanted / np.where(some, norms, 1.0), 1.0)

    def _objective(self, sums: RoundSums, T: np.ndarray, H: np.ndarray) -> float:
        """Return the objective of the model; ``T`` is (W'Y) B + C."""
        assert self.sumsq is not None
        penalties = self.loss.penalties
        products = float(np.sum(sums.WtW * (H @ H.T))) - 2.0 * float(np.sum(T * H))
        of_W = penalties.of_W(float(sums.sums.sum()), float(np.trace(sums.WtW)))
        return 0.5 * (self.sumsq + products) + of_W + penalties.of_H(H)

    def _h_step(self, sums: RoundSums, T: np.ndarray, H: np.ndarray) -> tuple[np.ndarray, float]:
        """Solve the columns of H, in parts of some columns; return also how much that gains."""
        loss, fixed = self.loss, self.loss.fixed
        A = ridged(sums.WtW, loss.penalties.l2_H)
        free = np.ascontiguousarray(A[fixed:, fixed:])
        limits = loss.limits

        def part(span: tuple[int, int]) -> tuple[np.ndarray, float]:
            these = slice(*span)
            old = H[:, these]
            Ht = np.ascontiguousarray(old[fixed:].T)
            target = np.ascontiguousarray(T[fixed:, these].T)
            if fixed:
                target -= old[:fixed].T @ A[:fixed, fixed:]
            found = solve_rows(
                Ht,
                target,
                free,
                self.columns[these],
                tau=limits.H_tau,
                l1=loss.penalties.l1_H,
                max_sweeps=limits.round_H_sweeps,
            )
            return np.concatenate([old[:fixed], Ht.T]), found.gain

        width = max(1, self.part_bytes // (8 * len(H)))
        cuts = [*range(0, H.shape[1], width), H.shape[1]]
        parts = list(self.each(part, list(pairwise(cuts))))
        whole = np.concatenate([one for one, _ in parts], axis=1)
        return np.ascontiguousarray(whole), sum(gain for _, gain in parts)


def _little(gains: list[float], used: int, price: float, limits: LossLimits) -> bool:
    """Return whether the last round gained little, of what rounds gain, or for its price.

    The first gain is that of the H-step of the pass itself.
    """
    if len(gains) < 2:
        return False
    gained = sum(gains[1:])
    for_price = limits.round_patience * gained / (used + 1 / price) if price > 0 else 0.0
    return gains[-1] < max(limits.round_enough * gained / used, for_price)


TINY = float(np.finfo(np.float64).tiny)


def _rest(gains: list[float], limits: LossLimits) -> float:
    """Return the sum of the gains to come, if they go on shrinking as the last ones did."""
    some = [gain for gain in gains[1:] if gain > 0][-limits.round_telling :]
    if len(some) < 2:
        return some[-1] if some else 0.0
    rate = min((some[-1] / some[0]) ** (1 / (len(some) - 1)), limits.round_slowest)
    return some[-1] * rate / (1 - rate)


class _Extrapolation:
    """A step beyond the next H that grows while it helps (Ang and Gillis 2019)."""

    def __init__(self, H: np.ndarray, limits: LossLimits) -> None:
        self.beta, self.limit, self.last = limits.round_step, 1.0, H.copy()
        self.growth, self.shrinking = limits.round_growth, limits.round_shrinking

    def further(self, H: np.ndarray) -> np.ndarray:
        """Return H and some of the way that it came."""
        found = np.maximum(0.0, H + self.beta * (H - self.last))
        self.last, self.limit = H, min(1.0, self.limit * self.growth)
        self.beta = min(self.limit, self.beta * self.growth)
        return found

    def too_far(self) -> None:
        """Step less far from now on."""
        self.limit = self.beta
        self.beta /= self.shrinking
