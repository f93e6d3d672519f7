"""The stability of the models of one k: by components, and by clusters of rows or columns."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dnmf.study.matching import cosines, match

__all__ = ["Stability", "consensus", "cophenetic", "silhouettes", "stability"]

SAME = 0.95
"""Mean cosine of matched components from which two runs count as one solution."""

ROUNDS = 20


@dataclass(frozen=True)
class Stability:
    """The runs of one k, matched.

    Attributes
    ----------
    k, runs : int
    components : (k,) array
        Mean cosine of each component's copies in the other runs, by the medoid run's order.
    silhouettes : (k,) array
        Silhouettes of clusters of components over runs; distance 1 - cosine (NMFk: Alexandrov et
        al. 2013; each run gives one component to each cluster).
    silhouette : float
        Mean of the silhouettes; ``least`` is the smallest: NMFk's measure.
    cophenetic : float
        Correlation of Brunet et al. (2004) of the consensus matrix, of the rows sampled or of
        the columns, whichever are fewer.
    clusters : str
        ``"rows"`` or ``"columns"``: what the consensus is of.
    consensus : (c, c) array
        Share of the runs in which two of them have the same dominant component.
    medoid : int
        The run most like all others.
    median : (k, d) array
        Medians of the matched components, each of unit sum (cNMF: Kotliar et al. 2019).
    solutions : int
        Groups of runs that are alike.
    objectives : list of float
    """

    k: int
    runs: int
    components: np.ndarray
    silhouettes: np.ndarray
    silhouette: float
    least: float
    cophenetic: float
    clusters: str
    consensus: np.ndarray
    medoid: int
    median: np.ndarray
    solutions: int
    objectives: list[float]

    @property
    def mean(self) -> float:
        """Mean cosine of matched components."""
        return float(self.components.mean())


def stability(
    Hs: list[np.ndarray], Ws: list[np.ndarray], objectives: list[float], *, by_sum: bool = False
) -> Stability:
    """Compare runs of one k.

    Parameters
    ----------
    Hs : list of (k, d) arrays
    Ws : list of (m, k) arrays
        W of each run for one set of m rows (all, or a sample).
    objectives : list of float
    by_sum : bool
        Components have unit sum (Kullback-Leibler), else unit norm, before they are compared
        by their size (consensus).
    """
    runs, k = len(Hs), Hs[0].shape[0]
    between = _similarities(Hs)
    medoid = int(np.argmax(between.sum(axis=1)))
    order = _clusters(Hs, medoid)
    aligned = np.stack([H[matched] for H, matched in zip(Hs, order, strict=True)])
    found = silhouettes(aligned)
    columns = Hs[0].shape[1] <= Ws[0].shape[0]
    factors = [_balanced(W, H, columns, by_sum) for W, H in zip(Ws, Hs, strict=True)]
    matrix = consensus(factors)
    unit = aligned / np.maximum(aligned.sum(axis=2, keepdims=True), np.finfo(float).tiny)
    median = np.median(unit, axis=0)
    total = median.sum(axis=1, keepdims=True)
    return Stability(
        k=k,
        runs=runs,
        components=_copies(aligned),
        silhouettes=found,
        silhouette=float(found.mean()),
        least=float(found.min()),
        cophenetic=cophenetic(matrix) if runs > 1 else 1.0,
        clusters="columns" if columns else "rows",
        consensus=matrix,
        medoid=medoid,
        median=median / np.where(total > 0, total, 1.0),
        solutions=_solutions(between),
        objectives=objectives,
    )


def _similarities(Hs: list[np.ndarray]) -> np.ndarray:
    """Compute the mean cosine of matched components of every two runs."""
    runs = len(Hs)
    found = np.eye(runs)
    for a in range(runs):
        for b in range(a):
            found[a, b] = found[b, a] = np.mean([cosine for _, _, cosine in match(Hs[a], Hs[b])])
    return found


def _clusters(Hs: list[np.ndarray], medoid: int) -> list[np.ndarray]:
    """Order every run's components: match them to the clusters' mean directions (NMFk).

    Starts from the medoid run; centres move until no run is matched otherwise.
    """
    centre = np.asarray(Hs[medoid], np.float64)
    order: list[np.ndarray] = []
    for _ in range(ROUNDS):
        before = order
        order = [np.array([j for _, j, _ in sorted(match(centre, H))]) for H in Hs]
        if before and all((a == b).all() for a, b in zip(before, order, strict=True)):
            break
        stacked = np.stack([H[matched] for H, matched in zip(Hs, order, strict=True)])
        norms = np.linalg.norm(stacked, axis=2, keepdims=True)
        centre = (stacked / np.where(norms > 0, norms, 1.0)).mean(axis=0)
    return order


def _copies(aligned: np.ndarray) -> np.ndarray:
    """Compute the mean cosine of every component with its copies in the other runs."""
    runs, k = aligned.shape[:2]
    if runs == 1:
        return np.ones(k)
    values = [cosines(aligned[:, j], aligned[:, j]) for j in range(k)]
    return np.array([(v.sum() - np.trace(v)) / (runs * (runs - 1)) for v in values])


def silhouettes(aligned: np.ndarray) -> np.ndarray:
    """Compute the mean silhouette of each cluster, distance 1 - cosine (Rousseeuw 1987).

    Parameters
    ----------
    aligned : (runs, k, d) array
        Component j of every run belongs to cluster j.

    Returns
    -------
    (k,) array
        1 where there is one component or one run.
    """
    runs, k = aligned.shape[:2]
    if runs == 1 or k == 1:
        return np.ones(k)
    flat = aligned.transpose(1, 0, 2).reshape(k * runs, -1)
    distance = (1.0 - cosines(flat, flat)).reshape(k, runs, k, runs)
    own = np.empty((k, runs))
    other = np.empty((k, runs))
    for j in range(k):
        inside = distance[j, :, j, :]
        own[j] = inside.sum(axis=1) / (runs - 1)
        means = distance[j].mean(axis=2)  # of each run's copy to every cluster
        means[:, j] = np.inf
        other[j] = means.min(axis=1)
    largest = np.maximum(own, other)
    width = np.divide(other - own, largest, out=np.zeros_like(own), where=largest > 0)
    return np.asarray(width.mean(axis=1))


def _balanced(W: np.ndarray, H: np.ndarray, columns: bool, by_sum: bool) -> np.ndarray:
    """Return the factor whose entries say to which component a thing belongs, (things, k).

    Scales are moved so that the other factor's components are of unit sum or norm.
    """
    mine, other = (H.T, W.T) if columns else (W, H)
    other = other.astype(np.float64)
    sizes = other.sum(axis=1) if by_sum else np.linalg.norm(other, axis=1)
    return np.asarray(mine * sizes)


def consensus(factors: list[np.ndarray]) -> np.ndarray:
    """Compute the share of the runs in which two things have the same dominant component.

    Parameters
    ----------
    factors : list of (c, k) arrays
    """
    count = factors[0].shape[0]
    total = np.zeros((count, count), np.float32)
    for factor in factors:
        label = factor.argmax(axis=1)
        total += label[:, None] == label[None, :]
    return np.asarray(total / len(factors), np.float64)


def cophenetic(matrix: np.ndarray) -> float:
    """Compute the cophenetic correlation of a consensus matrix (Brunet et al. 2004).

    The linkage is average. It is 1 where every two things are together in all runs or in none.
    """
    from scipy.cluster.hierarchy import cophenet, linkage
    from scipy.spatial.distance import squareform

    distance = 1.0 - matrix
    np.fill_diagonal(distance, 0.0)
    flat = squareform(distance, checks=False)
    if flat.size == 0 or np.ptp(flat) == 0:
        return 1.0
    tree = cophenet(linkage(flat, method="average"))
    if np.ptp(tree) == 0:
        return 0.0
    return float(np.corrcoef(flat, tree)[0, 1])


def _solutions(between: np.ndarray) -> int:
    """Count distinct solutions: a run belongs to the first solution whose first run is alike."""
    firsts: list[int] = []
    for run in range(between.shape[0]):
        if not any(between[run, first] >= SAME for first in firsts):
            firsts.append(run)
    return len(firsts)
