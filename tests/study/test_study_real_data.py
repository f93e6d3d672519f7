"""Studies of data whose answers others have published."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import dnmf


def test_mutational_signatures_are_stable_up_to_four(shared_data: Path) -> None:
    """NMFk tools report 4; the objectives are those of the best of 20 starts."""
    lines = (shared_data / "brca21" / "Samples_SBS.txt").read_text().splitlines()[1:]
    V = np.array([[float(x) for x in line.split("\t")[1:]] for line in lines])
    study = dnmf.fit_many(V, [2, 4], 3, loss="kullback-leibler", holdout=None)
    for k, best in ((2, 3787.43), (4, 1566.62)):
        assert study.result(k).objective == pytest.approx(best, rel=0.01)
        assert study.stability(k).mean >= 0.9


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_leukemia_has_the_published_cophenetic_correlations(shared_data: Path) -> None:
    """Brunet et al. (2004), Kullback-Leibler, 20 starts of every k."""
    V = np.loadtxt(shared_data / "leukemia" / "ALL_AML_data.txt")
    study = dnmf.fit_many(V, [2, 3, 4, 5], 20, loss="kullback-leibler", holdout=None)
    published = {2: 1.0000, 3: 0.9932, 4: 0.9848, 5: 0.9748}
    for k, value in published.items():
        assert study.stability(k).cophenetic == pytest.approx(value, abs=0.01)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_planted_number_is_found_out_of_core(tmp_path: Path) -> None:
    """Poisson data 100,000 x 500 of 8 components, among 2 to 14."""
    import zarr

    from dnmf.steps.serial import Serial

    rng = np.random.default_rng(0)
    H = rng.gamma(0.4, size=(8, 500))
    V = zarr.create_array(
        str(tmp_path / "V.zarr"), shape=(100_000, 500), chunks=(2000, 500), dtype="f4"
    )
    for start in range(0, 100_000, 2000):
        mean = rng.gamma(0.4, size=(2000, 8)) @ H
        V[start : start + 2000] = rng.poisson(mean)
    study = dnmf.fit_many(
        str(tmp_path / "V.zarr"), range(2, 15), 2, out=tmp_path / "study", executor=Serial()
    )
    answer = study.recommend()
    assert answer.k == 8
    assert not answer.weak
