"""What decreases are judged against: the objective, or what is explained, if that is less."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp

import dnmf
from dnmf.fitting.stopping import worth
from dnmf.losses import get_loss
from dnmf.study.held_out import held_out_by_k


def divergence(V, Y, beta):
    if beta == 2:
        return 0.5 * np.sum((V - Y) ** 2)
    if beta == 1:
        logs = np.zeros_like(V)
        logs[V > 0] = V[V > 0] * np.log(V[V > 0] / Y[V > 0])
        return np.sum(logs - V + Y)
    if beta == 0:
        return np.sum(V / Y - np.log(V / Y) - 1)
    terms = V**beta + (beta - 1) * Y**beta - beta * V * Y ** (beta - 1)
    return np.sum(terms) / (beta * (beta - 1))


@pytest.mark.parametrize("beta", [0, 0.5, 1, 1.5, 2, 3])
@pytest.mark.parametrize("kind", ["float64", "float32", "sparse"])
def test_the_divergence_from_the_column_means(beta, kind):
    rng = np.random.default_rng(0)
    V = rng.gamma(1, size=(40, 7)) * np.arange(1, 8)
    if kind == "sparse":
        if beta == 0:
            pytest.skip("it needs V > 0")
        V[rng.random(V.shape) < 0.6] = 0
        V[:, 3] = 0
    V = V.astype("float32" if kind == "float32" else "float64")
    names = {0: "itakura-saito", 1: "kullback-leibler", 2: "frobenius"}
    loss = get_loss(names.get(beta, "beta"), beta=None if beta in names else beta)
    blocks = [V[:25], V[25:]]
    own = sum(loss.own_term(sp.csr_array(b) if kind == "sparse" else b) for b in blocks)
    columns = np.stack([V.sum(0, dtype=float), np.square(V, dtype=float).sum(0)])
    V = V.astype(float)[:, V.any(axis=0)]
    expected = divergence(V, np.broadcast_to(V.mean(0), V.shape), beta)
    assert loss.of_means(own, columns, 40) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("loss", ["frobenius", "kullback-leibler"])
def test_where_entries_are_missing(loss):
    columns = np.array([[3.0, 4.0], [5.0, 8.0]])
    found = get_loss(loss, masked=True).of_means(1.0, columns, 2)
    assert found == (6.5 if loss == "frobenius" else None)


@pytest.mark.parametrize(
    ("objective", "of_means", "expected"),
    [
        (10.0, 11.0, 1.0),
        (10.0, 30.0, 10.0),
        (10.0, None, 10.0),
        (10.0, 10.1, 0.3),
        (10.0, 9.0, 0.3),
    ],
    ids=["noise", "structure", "unknown", "nearly-nothing", "less-than-nothing"],
)
def test_what_a_decrease_is_a_share_of(objective, of_means, expected):
    assert worth(objective, of_means, 0.03) == pytest.approx(expected)


def noisy(rng=7):
    """Counts of 8 groups whose columns have unit variance, nine tenths of them noise."""
    rng = np.random.default_rng(rng)
    profiles = rng.lognormal(0, 1, 300) * np.where(rng.random((8, 300)) < 0.1, 5, 1)
    parts = rng.dirichlet(np.full(8, 0.3), 3000)
    mean = parts @ (profiles / profiles.sum(1, keepdims=True)) * 300
    X = rng.poisson(mean * rng.gamma(2, 0.5, mean.shape)).astype("f4")
    return X / np.maximum(X.std(0), 1e-6)


def test_a_fit_of_noisy_data_goes_on_as_tight_as_its_explained_part():
    V = noisy()
    fit = dnmf.fit(V, 8, seed=0, n_init=1)
    of_means = 0.5 * V.shape[0] * float(np.var(V.astype(float), axis=0).sum())
    tight = dnmf.fit(V, 8, seed=0, n_init=1, tol=1e-6)
    assert of_means - fit.objective < 0.3 * fit.objective  # most of V is noise
    assert fit.objective - tight.objective < 1e-2 * (of_means - fit.objective)


def lines(errors, worth):
    return [
        {"k": k, "seed": 0, "fold": f, "held_out": e, "objective": 10.0, "worth": worth}
        for k, row in errors.items()
        for f, e in enumerate(row)
    ]


def test_held_out_errors_of_noise_are_told_apart_by_what_is_explained():
    errors = {14: [0.9005, 0.9004], 15: [0.9, 0.9], 16: [0.90001, 0.89999]}
    against_all = held_out_by_k(lines(errors, 10.0), 1e-4)
    against_explained = held_out_by_k(lines(errors, 1.0), 1e-4)
    assert min(against_all.within_one_error) == 14
    assert min(against_explained.within_one_error) == 15
    older = [{n: v for n, v in line.items() if n != "worth"} for line in lines(errors, 1.0)]
    assert held_out_by_k(older, 1e-4).resolution == against_all.resolution
