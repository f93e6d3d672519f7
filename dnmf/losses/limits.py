"""Sizes and numbers of steps by which losses work; a run's plan keeps them."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["LossLimits"]


@dataclass(frozen=True)
class LossLimits:
    """Constants of losses that decide bits or memory.

    Attributes
    ----------
    nonzero_tile : int
        Entries of V, whole rows of them, that a sparse loss works on at once.
    batch : int
        Entries whose rows of H' are copied together, into a processor's second cache.
    dense_tile : int
        Entries, float64, that a beta-divergence works on at once. Their products stay in the
        cache: 2.3 times faster than tiles eight times as large.
    dense_tile_rows : int
        Rows of a dense tile, at least: those of a wide V are cut into columns instead.
    residual_tile : int
        Entries of W H that are made at once where residuals of a dense V are computed, or one row.
    speckled_tile : int
        Entries, zeros too, from which those that are left out are taken apart at once.
    curvature_bytes : int
        The curvature by columns of H as a whole up to this size (in float64), above it only its
        diagonal (for masked least squares with off-diagonals of rank one).
    curvature_columns : int
        Columns whose curvature is made at once, where it is of rank one.
    W_tau : float
        Relative tolerance of the W-step of a pass.
    W_sweeps : int
        Most sweeps of a row of W of least squares in a pass.
    H_tau : float
        Relative tolerance of the H-step of least squares.
    H_sweeps : int
        Most sweeps of the H-step of least squares.
    round_tau : float
        Relative tolerance of the W-step of rounds, and of a pass that leaves a compressed V: what
        is left to do at H would be taken for what H can be improved by.
    round_sweeps, round_H_sweeps : int
        Most sweeps of a row of W, and of a column of H, in a round between two reads.
    round_enough : float
        Rounds end where one gains less than this share of what they gain on average.
    round_patience : float
        Rounds end where one gains less, for its time, than this share of what all of them gain for
        theirs and that of the read.
    round_outside : float
        Rounds end where a larger share of |H|^2 is outside of the basis.
    round_step, round_growth, round_shrinking : float
        How far rounds go beyond their H, as a share of the way that it came: at first; by which
        factor that, and its bound, grow with every round that helped; what it is divided by after
        one that did not.
    round_telling : int
        So many last gains of rounds tell how fast they shrink.
    round_slowest : float
        The slowest rate that gains of rounds are taken to shrink at.
    parallel : float
        Least curvature of G, scaled to a diagonal of 1, below which a pass of least squares in
        float64 solves rows of W and columns of H exactly.
    singular : float
        Curvature below so many roundings of k products is none: then it does not.
    solved_sweeps : int
        Most sweeps of a row of W of least squares before it is solved exactly.
    kl_steps, kl_cold_steps, kl_patient_steps : int
        Newton steps of a row of W of Kullback-Leibler: from a start, from zeros, and before it is
        solved exactly.
    kl_smoothing : float
        Entries of mean size that every column is taken to have had in the sample besides its own.
    kl_mixed : float
        Share of a prediction that is the mean over components and over columns: a count where the
        model expects none would otherwise cost infinitely much.
    beta_steps, beta_cold_steps, beta_patient_steps : int
        Multiplicative steps of a row of W of a beta-divergence, as those of Kullback-Leibler.
    beta_patient_tau : float
        Relative change of W at which the multiplicative steps before the exact ones end.
    exact_steps : int
        Most Newton steps, with the full matrix, of a row that is solved exactly; few need ten.
    """

    nonzero_tile: int = 1 << 20
    batch: int = 1 << 11
    dense_tile: int = 1 << 16
    dense_tile_rows: int = 16
    residual_tile: int = 1 << 18
    speckled_tile: int = 1 << 20
    curvature_bytes: int = 256 << 20
    curvature_columns: int = 512
    W_tau: float = 1e-2
    W_sweeps: int = 200
    H_tau: float = 1e-3
    H_sweeps: int = 500
    round_tau: float = 1e-4
    round_sweeps: int = 5
    round_H_sweeps: int = 50
    round_enough: float = 0.02
    round_patience: float = 0.1
    round_outside: float = 0.02
    round_step: float = 0.5
    round_growth: float = 1.05
    round_shrinking: float = 1.5
    round_telling: int = 5
    round_slowest: float = 0.98
    parallel: float = 1e-4
    singular: float = 10.0
    solved_sweeps: int = 200
    kl_steps: int = 3
    kl_cold_steps: int = 8
    kl_patient_steps: int = 6
    kl_smoothing: float = 1.0
    kl_mixed: float = 1e-3
    beta_steps: int = 6
    beta_cold_steps: int = 20
    beta_patient_steps: int = 30
    beta_patient_tau: float = 1e-5
    exact_steps: int = 200
