"""What a study says where there is little to say."""

from __future__ import annotations

import numpy as np
import pytest

import dnmf
from dnmf.errors import OptionError
from dnmf.study.held_out import empty_folds, held_out_by_k


def nearly_empty() -> np.ndarray:
    rng = np.random.default_rng(0)
    V = np.zeros((30, 10))
    rows, columns = rng.integers(0, 30, 25), rng.integers(0, 10, 25)
    V[rows, columns] = rng.gamma(2, size=25)
    return V


@pytest.mark.parametrize("in_folder", [False, True])
def test_folds_that_left_out_zeros_do_not_count(tmp_path, in_folder):
    out = tmp_path / "s.zarr" if in_folder else None
    study = dnmf.fit_many(nearly_empty(), range(1, 4), 2, out=out)
    text = str(study.recommend())
    assert "Folds 0, 1, 2 left out nothing but zeros: without them." in text
    assert study.held_out.errors.shape == (3, 2)
    assert study.held_out.empty == [0, 1, 2]
    dnmf.report(study, tmp_path / "page.html")


@pytest.mark.parametrize("seeds", [1, 2])
def test_where_all_that_was_left_out_is_zeros_it_is_said(seeds):
    V = np.zeros((40, 12))
    V[0, 0] = V[1, 1] = 1.0
    study = dnmf.fit_many(V, [1, 2], seeds)
    lines = [line for line in study.models if line["fold"] is not None]
    assert all(np.isnan(line["held_out"]) for line in lines)
    assert study.held_out is None
    assert "All that was left out is zeros" in str(study.recommend())


def test_an_exact_product_has_its_own_number_of_components():
    rng = np.random.default_rng(1)
    V = rng.gamma(1, size=(60, 3)) @ rng.gamma(1, size=(3, 30))
    found = dnmf.fit_many(V, range(2, 6), 1).recommend()
    assert found.k == 3, str(found)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(20))
def test_exact_products_of_many_ranks(seed):
    k, rng = 2 + seed % 5, np.random.default_rng(100 + seed)
    V = rng.gamma(1, size=(200, k)) @ rng.gamma(1, size=(k, 40))
    found = dnmf.fit_many(V, range(max(1, k - 1), k + 4), 2, max_passes=60).recommend()
    assert found.k == k, str(found)


def test_starts_that_are_all_the_same_are_no_evidence():
    V = nearly_empty()
    with pytest.raises(OptionError, match="same start for every seed"):
        dnmf.fit_many(V, [1, 2], 2, init="nndsvd", holdout=None)
    assert dnmf.fit_many(V, [1, 2], 1, init="nndsvda", holdout=None).ks == [1, 2]


def test_folds_that_are_not_fitted_yet_are_not_called_empty():
    def line(k, fold, error, objective):
        return {"k": k, "fold": fold, "held_out": error, "objective": objective}

    lines = [line(k, None, None, 1.0) for k in (1, 2)]
    waiting = [line(k, fold, None, None) for k in (1, 2) for fold in (0, 1)]
    assert held_out_by_k(lines + waiting) is None
    assert empty_folds(lines + waiting) == []
    partly = [line(1, 0, 0.5, 1.0), line(2, 0, 0.4, 1.0), line(1, 1, 0.6, 1.0), waiting[3]]
    found = held_out_by_k(lines + partly)
    assert (found.ks, found.empty) == ([1], [])
    zeros = [line(k, 2, float("nan") if k == 1 else None, 1.0) for k in (1, 2)]
    found = held_out_by_k(lines + partly + zeros)
    assert (found.ks, found.empty, found.errors.tolist()) == ([1], [2], [[0.5, 0.6]])
