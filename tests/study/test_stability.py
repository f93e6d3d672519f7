"""Matching, stability and the recommendation, on cases whose answer is known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.cluster.hierarchy import cophenet, linkage
from scipy.spatial.distance import pdist, squareform
from sklearn.metrics import silhouette_samples

import dnmf
from dnmf.errors import InputError, OptionError
from dnmf.study.held_out import HeldOut, held_out_by_k
from dnmf.study.matching import compare, match
from dnmf.study.recommend import recommend
from dnmf.study.stability import cophenetic, silhouettes, stability

RNG = np.random.default_rng(0)
H = RNG.gamma(0.3, size=(4, 50))
W = RNG.gamma(0.3, size=(80, 4))


def shuffled(order: list[int], noise: float = 0.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """The same model with components in another order and of other scales."""
    rng = np.random.default_rng(seed)
    scale = rng.uniform(0.1, 10, size=4)
    other = (H * scale[:, None])[order] * (1 + noise * rng.normal(size=H.shape))
    return (W / scale)[:, order], np.maximum(other, 0)


def test_permutation_and_scale_do_not_matter() -> None:
    order = [2, 0, 3, 1]
    found = match(H, shuffled(order)[1])
    assert [(i, order[j]) for i, j, _ in found] == [(i, i) for i in range(4)]
    assert min(cosine for *_, cosine in found) == pytest.approx(1)
    assert match(H * 1e-200, H * 1e200)[0][2] == pytest.approx(1)


def test_the_assignment_is_optimal_not_greedy() -> None:
    A = np.array([[1.0, 0.0], [0.9, 0.436]])
    B = np.array([[0.95, 0.312], [0.2, 0.98]])  # A[0] is nearest to B[0], and so is A[1]
    assert [(i, j) for i, j, _ in match(A, B)] == [(0, 0), (1, 1)]


def test_compare_tells_who_has_no_partner() -> None:
    spare = np.zeros((1, 50))
    spare[0, 7] = 1.0
    found = compare(np.vstack([H, spare]), shuffled([1, 0, 3, 2])[1])
    assert {(i, j) for i, j, _ in found.pairs} == {(0, 1), (1, 0), (2, 3), (3, 2)}
    assert (found.alone_a, found.alone_b) == ([4], [])
    assert "4 matched pairs, 1.000 alike" in str(found)
    assert "without a partner in the first: 4" in str(found)
    with pytest.raises(InputError, match="50 columns, the second 9"):
        compare(H, np.ones((2, 9)))
    with pytest.raises(InputError, match=r"shape \(50,\)"):
        compare(H, H[0])
    nothing = compare(np.eye(3)[:1], np.eye(3)[1:])
    assert nothing.pairs == []
    assert "0 matched pairs" in str(nothing)


def test_compare_takes_results_and_paths(tmp_path: Path) -> None:
    V = W @ H
    one = dnmf.fit(V, 4, seed=0, out=tmp_path / "one", max_passes=15)
    two = dnmf.fit(V, 4, seed=1, max_passes=30)
    assert dnmf.compare(tmp_path / "one", two).mean_cosine > 0.9
    assert dnmf.compare(one, one.H).mean_cosine == pytest.approx(1)


def test_silhouettes_are_those_of_scikit_learn() -> None:
    aligned = RNG.gamma(1, size=(5, 3, 20)) + 3 * np.eye(3).repeat(7, axis=1)[:, :20]
    flat = aligned.reshape(15, 20)
    labels = np.tile(np.arange(3), 5)
    widths = silhouette_samples(flat, labels, metric="cosine")
    expected = [widths[labels == j].mean() for j in range(3)]
    np.testing.assert_allclose(silhouettes(aligned), expected, rtol=1e-9)


def test_cophenetic_correlation_is_that_of_its_definition() -> None:
    labels = [RNG.integers(0, 3, 12) for _ in range(6)]
    matrix = np.mean([x[:, None] == x[None, :] for x in labels], axis=0)
    flat = squareform(1 - matrix, checks=False)
    expected, _ = cophenet(linkage(flat, "average"), flat)
    assert cophenetic(matrix) == pytest.approx(float(expected))
    sure = np.kron(np.eye(3), np.ones((4, 4)))
    assert cophenetic(sure) == pytest.approx(1)
    assert cophenetic(np.ones((5, 5))) == 1.0
    assert pdist(np.zeros((1, 1))).size == 0
    assert cophenetic(np.ones((1, 1))) == 1.0


def test_equal_runs_are_stable_and_noise_is_not() -> None:
    orders = [[0, 1, 2, 3], [3, 1, 0, 2], [1, 0, 3, 2]]
    same = [shuffled(order, 0.01, s) for s, order in enumerate(orders)]
    found = stability([h for _, h in same], [w for w, _ in same], [1.0, 1.0, 1.0])
    assert found.mean > 0.999
    assert found.least > 0.9
    assert found.cophenetic > 0.99
    assert (found.solutions, found.runs, found.k) == (1, 3, 4)
    assert len(match(found.median, H)) == 4
    assert min(cosine for *_, cosine in match(found.median, H)) > 0.99
    np.testing.assert_allclose(found.median.sum(axis=1), 1)
    random = [RNG.gamma(0.3, size=(4, 50)) for _ in range(3)]
    lost = stability(random, [RNG.gamma(0.3, size=(80, 4)) for _ in range(3)], [1.0, 1.0, 1.0])
    assert lost.mean < 0.7
    assert lost.solutions == 3
    assert lost.cophenetic < found.cophenetic
    alone = stability(random[:1], [W], [1.0])
    assert (alone.mean, alone.solutions, alone.cophenetic) == (1.0, 1, 1.0)


def table(errors: list[list[float]], ks: range | None = None) -> HeldOut:
    return HeldOut(list(ks or range(2, 2 + len(errors))), np.array(errors))


def steady(**changes: float) -> Any:
    runs = [shuffled([0, 1, 2, 3], changes.get("noise", 0.01), s) for s in range(3)]
    return stability([h for _, h in runs], [w for w, _ in runs], [1.0] * 3)


def test_the_smallest_within_one_standard_error_is_taken() -> None:
    held = table([[0.5, 0.6, 0.4], [0.2, 0.3, 0.1], [0.1999, 0.301, 0.0998], [0.21, 0.31, 0.11]])
    assert held.best in (3, 4)
    answer = recommend(list(range(2, 6)), held, {})
    assert answer.k == 3
    assert "one run" in str(answer)
    hard = table([[0.9, 0.5, 0.1], [0.45, 0.25, 0.05], [0.449, 0.2495, 0.0499]])
    assert hard.within_one_error == [4]  # folds differ in how hard they are: that is no error
    assert hard.standard_error.max() < 1e-4


def test_weak_evidence_is_called_weak() -> None:
    falling = recommend([2, 3, 4], table([[0.5, 0.5], [0.4, 0.4], [0.3, 0.3]]), {})
    assert (falling.k, falling.weak) == (4, True)
    assert "larger k" in str(falling) or "more may be better" in str(falling)
    noise = np.random.default_rng(0).uniform(0.9, 1.1, size=(8, 5))
    flat = recommend(list(range(2, 10)), table(noise.tolist()), {})
    assert flat.weak
    near = table([[0.9, 0.5, 0.7], [0.29, 0.28, 0.31], [0.27, 0.28, 0.28], [0.3, 0.31, 0.29]])
    close = recommend([2, 3, 4, 5], near, {k: steady() for k in (2, 3, 4, 5)})
    assert (close.k, close.weak) == (4, True)
    assert "k = 3 is worse by less than two standard errors" in str(close)
    unstable = {k: steady(noise=2.0) for k in (2, 3, 4)}
    held = table([[0.5, 0.51], [0.2, 0.21], [0.25, 0.26]])
    answer = recommend([2, 3, 4], held, unstable)
    assert (answer.k, answer.weak) == (3, True)
    assert "not alike" in str(answer)
    assert not recommend([2, 3, 4], held, {k: steady() for k in (2, 3, 4)}).weak


def test_without_hold_out_stability_speaks_and_without_both_nobody() -> None:
    runs = {2: steady(), 3: steady(), 4: steady(noise=2.0)}
    answer = recommend([2, 3, 4], None, runs)
    assert (answer.k, answer.weak) == (3, True)
    assert "Nothing was left out" in str(answer)
    assert recommend([2, 3], None, {}).k is None
    assert "No k stands out" in str(recommend([2, 3], None, {}))
    assert recommend([4], None, {4: steady()}).weak


def test_a_fold_that_is_missing_leaves_its_k_out() -> None:
    lines = [
        {"k": k, "seed": 0, "fold": fold, "objective": 1.0, "held_out": error}
        for k in (2, 3)
        for fold, error in ((0, 0.1), (1, None if k == 3 else 0.1))
    ]
    held = held_out_by_k(lines)
    assert held is not None
    assert held.ks == [2]
    assert held_out_by_k([{"k": 2, "seed": 0, "fold": None, "held_out": None}]) is None


def test_a_study_says_what_it_has_not() -> None:
    study = dnmf.fit_many(W @ H, [3], 1, folds=2, max_passes=5)
    with pytest.raises(OptionError, match="no models of k = 9; it has k = 3"):
        study.result(9)
    with pytest.raises(OptionError, match="no seed 5"):
        study.result(3, 5)
    assert study.recommend().weak
    assert "Only k = 3" in str(study.recommend())
