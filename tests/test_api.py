"""``dnmf.fit``, ``transform``, ``plan`` and ``open`` in one process: names, starts, results."""

from __future__ import annotations

import inspect
import json
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp
import zarr
from scipy.optimize import nnls

import dnmf
from dnmf.config import MIB, FitConfig, Resources
from dnmf.errors import InputError, MemoryPlanError, OptionError, RunError
from dnmf.steps.events import Committed, Planned, Progress, Stopped
from dnmf.steps.serial import Serial
from dnmf.testing.layouts import write_compressed, write_dense
from dnmf.testing.problems import planted_poisson

V = planted_poisson(n=60, d=15, k=3, dtype="float64").dense
QUICK = {"max_passes": 4, "sample": 0, "seed": 0}


def bits(fit):
    return np.asarray(fit.W).tobytes(), np.asarray(fit.H).tobytes()


@pytest.mark.parametrize(
    ("ours", "theirs", "value"),
    [("k", "n_components", 3), ("max_passes", "max_iter", 4), ("seed", "random_state", 5)],
)
def test_names_of_scikit_learn_mean_the_same(ours, theirs, value):
    options = {"k": 3, **QUICK, ours: value}
    expected = bits(dnmf.fit(V, **options))
    assert bits(dnmf.fit(V, **options, **{theirs: value})) == expected
    del options[ours]
    assert bits(dnmf.fit(V, **options, **{theirs: value})) == expected
    with pytest.raises(OptionError, match=rf"{ours}={value} and {theirs}=9 are two names"):
        dnmf.fit(V, **{**options, ours: value, theirs: 9})


def test_an_option_that_does_not_exist_is_a_typo():
    with pytest.raises(TypeError, match="max_pases"):
        dnmf.fit(V, 3, max_pases=5)


def test_every_option_of_the_configuration_can_be_given():
    names = set(inspect.signature(dnmf.fit).parameters)
    own = {"models", "holdout", "folds", "batch", "residuals"}  # of studies and of races
    assert set(FitConfig.__dataclass_fields__) - own <= names


CHANGES = [
    *(("tol", 0.05), ("max_passes", 2), ("dtype", "float32"), ("seed", 7), ("n_init", 1)),
    *(("block_size", 900), ("segments", 2), ("fan_in", 2), ("slab_size", 200), ("k", 2)),
    *(("rounds", 0), ("sample", 0), ("alpha_W", 0.01), ("l1_ratio", 1.0), ("solver", "mu")),
    *(("loss", "kullback-leibler"), ("sample_bytes", 2000), ("loss", 0.5), ("beta", 1.5)),
    *(("alpha_H", 0.5), ("init", "nndsvda"), ("normalize", "components"), ("missing", "nan")),
    *(("weights", 1.0 + np.arange(900.0).reshape(60, 15)), ("fixed_H", np.ones((1, 15)))),
    ("max_time", 1e-9),
]
ELSEWHERE = {  # what they say is not in the bits of a fit in memory
    "V": "the matrix",
    "out": "tests/test_api_resume.py",
    "client": "tests/executors",
    "max_block": "tests/planning/test_plan.py",
    "missing_chunks": "tests/sources/test_missing_chunks.py",
    "clip": "tests/fitting/test_clip.py",
    "strict_bits": "tests/test_api_resume.py",
    "overwrite": "tests/test_api_resume.py",
    "resume": "tests/test_api_resume.py",
    "executor": "tests/executors",
    "keep_order": "tests/estimator",
    "on_event": "test_events_come_in_order",
    "init_W": "test_a_given_w_is_where_the_first_pass_starts",
    "n_components": "test_names_of_scikit_learn_mean_the_same",
    "max_iter": "test_names_of_scikit_learn_mean_the_same",
    "random_state": "test_names_of_scikit_learn_mean_the_same",
}


def test_no_option_is_without_its_test():
    tested = {name for name, _ in CHANGES} | set(ELSEWHERE)
    assert tested == set(inspect.signature(dnmf.fit).parameters)
    for name, where in ELSEWHERE.items():
        if where.startswith("test_"):
            assert callable(globals()[where])
        elif where.startswith("tests/"):
            path = Path(__file__).parents[1] / where
            files = [path] if path.suffix else path.glob("*.py")
            assert any(name in file.read_text() for file in files), name


@pytest.mark.parametrize(("name", "value"), CHANGES)
def test_every_option_changes_what_it_says(name, value):
    """No option is parsed and ignored: the bits, the passes or the layout differ."""
    base = {"k": 3, "seed": 0, "alpha_H": 0.02, "block_size": 3000, "tol": 1e-6, "max_passes": 8}
    one, other = dnmf.fit(V, **base), dnmf.fit(V, **{**base, name: value})

    def seen(fit):
        return bits(fit), fit.passes, fit.details["layout"], fit.W.dtype

    assert seen(one) != seen(other)


def test_numbers_of_other_types_are_numbers():
    expected = bits(dnmf.fit(V, 3, **QUICK))
    options = {"max_passes": np.int64(4), "seed": np.uint8(0), "sample": 0, "tol": 1e-4}
    assert bits(dnmf.fit(V, np.int32(3), **options)) == expected
    assert bits(dnmf.fit(V, 3.0, **options, block_size="32 MiB", dtype=np.float64)) == expected


def test_generators_are_seeds_and_none_draws_one():
    first = dnmf.fit(V, 3, seed=np.random.default_rng(1), max_passes=2)
    again = dnmf.fit(V, 3, seed=np.random.default_rng(1), max_passes=2)
    state = dnmf.fit(V, 3, seed=np.random.RandomState(1), max_passes=2)
    assert bits(first) == bits(again) != bits(state)
    drawn = dnmf.fit(V, 3, max_passes=2)
    seed = drawn.config["models"][0]["seed"]
    assert bits(dnmf.fit(V, 3, seed=seed, max_passes=2)) == bits(drawn)


def test_a_given_start_is_used_and_its_rows_are_k():
    rng = np.random.default_rng(0)
    H = rng.random((3, 15))
    fit = dnmf.fit(V, init=H, max_passes=1)
    assert fit.W.shape == (60, 3)
    alike = (fit.H / np.linalg.norm(fit.H, axis=1, keepdims=True)) @ (
        H / np.linalg.norm(H, axis=1, keepdims=True)
    ).T
    np.testing.assert_allclose(np.sort(alike.max(axis=0)), 1)  # pass 1 solves W at this H
    assert bits(dnmf.fit(V, init=H.tolist(), max_passes=1)) == bits(fit)
    other = dnmf.fit(V, init=rng.random((3, 15)), max_passes=1)
    assert other.objective != fit.objective


def test_a_given_w_is_where_the_first_pass_starts():
    H = np.random.default_rng(0).random((3, 15))
    W = np.array([nnls(H.T, v)[0] for v in V])
    warm = dnmf.fit(V, init=H, init_W=W, max_passes=1)
    cold = dnmf.fit(V, init=H, max_passes=1)
    best = 0.5 * np.sum((V - W @ H) ** 2)
    assert warm.objective == pytest.approx(best, rel=1e-9)
    assert warm.history[0]["sweeps"] < cold.history[0]["sweeps"]


def test_the_dtype_follows_the_data_unless_asked():
    for stored, computed in (("f4", "f4"), ("f8", "f8"), ("u1", "f4"), ("i8", "f8"), ("?", "f4")):
        fit = dnmf.fit((V > 1 if stored == "?" else V).astype(stored), 2, **QUICK)
        assert fit.W.dtype == fit.H.dtype == computed
    assert dnmf.fit(V, 2, dtype="float32", **QUICK).W.dtype == "f4"
    assert dnmf.fit(V.astype("f4"), 2, dtype=np.float64, **QUICK).W.dtype == "f8"


def test_what_a_result_tells():
    fit = dnmf.fit(V, 3, seed=0)
    assert fit.done
    assert fit.path is None
    assert fit.shape == (60, 15)
    assert fit.k == fit.n_components == 3
    assert fit.passes == len(fit.history)
    assert "converged after" in fit.stop_reason
    assert fit.components_ is not None
    best = [row for row in fit.history if row["accepted"]][-1]
    assert (fit.objective, fit.relative_error) == (best["objective"], best["relative_error"])
    assert best["kkt_W"] < 1e-2
    assert best["kkt_H"] < 1e-2
    assert all(row["seconds"] > 0 for row in fit.history)
    told = json.loads(json.dumps(fit.inspect()))
    assert told["fingerprint"] == fit.fingerprint
    assert told["data"]["sumsq"] == pytest.approx(np.sum(V**2))
    assert {"dnmf", "numpy", "zarr", "scipy", "numba"} <= set(told["versions"])
    assert told["numeric"]["digest"] in told["numeric"]["digests"]
    assert told["mixed_numeric"] is False


def test_components_come_in_the_order_of_their_share():
    fit = dnmf.fit(V, 3, seed=0)
    share = np.einsum("nk,nd,kd->k", fit.W, V, fit.H)
    assert (np.diff(share) <= 0).all()
    np.testing.assert_allclose(np.linalg.norm(fit.H, axis=1), 1)


def test_the_fingerprint_is_that_of_the_data():
    prints = {
        name: dnmf.fit(X, 2, **QUICK).fingerprint
        for name, X in {"V": V, "again": V.copy(), "other": V + 1}.items()
    }
    assert prints["V"] == prints["again"] != prints["other"]


def test_events_come_in_order(tmp_path):
    seen = []
    write_dense(tmp_path / "V.zarr", V, (10, 15))
    fit = dnmf.fit(
        tmp_path / "V.zarr", 3, out=tmp_path / "run", on_event=seen.append, block_size=1, **QUICK
    )
    assert isinstance(seen[0], Planned)
    assert isinstance(seen[-1], Stopped)
    assert seen[-1].reason == fit.stop_reason
    committed = [event for event in seen if isinstance(event, Committed)]
    kinds = ["scan", "pass", "pass", "pass", "rounds", "pass", "publish"]
    assert [event.kind for event in committed] == kinds
    told = [event.rows[0]["objective"] for event in committed if event.kind == "pass"]
    assert told == [row["objective"] for row in fit.history]
    for number in range(1, 5):
        mine = [e for e in seen if isinstance(e, Progress) and e.number == number]
        assert [event.done for event in mine] == [1, 2, 3, 4, 5, 6]
        assert mine[-1].bytes_done == mine[-1].bytes_total == V.nbytes


@pytest.mark.parametrize("sparse", [False, True])
def test_transform_of_v_is_the_w_of_the_fit(sparse):
    X = sp.csr_array(V) if sparse else V
    fit = dnmf.fit(X, 3, seed=0, tol=1e-8, sample=0)
    W = dnmf.transform(X, fit)
    np.testing.assert_allclose(W, fit.W, atol=2e-2 * fit.W.max())
    best = np.array([nnls(np.asarray(fit.H).T, v)[0] for v in V])
    np.testing.assert_allclose(W, best, atol=1e-6 * best.max())


def test_transform_takes_a_path_or_an_array_and_other_rows(tmp_path):
    fit = dnmf.fit(V, 3, seed=0, out=tmp_path / "fit")
    new = planted_poisson(n=25, d=15, k=3, seed=9, dtype="float64").dense
    expected = dnmf.transform(new, fit)
    assert expected.shape == (25, 3)
    assert dnmf.transform(new, tmp_path / "fit").tobytes() == expected.tobytes()
    assert dnmf.transform(new, str(tmp_path / "fit")).tobytes() == expected.tobytes()
    assert dnmf.transform(new, np.asarray(fit.H)).tobytes() == expected.tobytes()
    stored = dnmf.transform(new, fit, out=tmp_path / "new")
    assert isinstance(stored, zarr.Array)
    np.testing.assert_array_equal(stored[:], expected)
    assert dnmf.open(tmp_path / "new").details["mode"] == "transform"


def test_transform_of_any_chunks_and_blocks_is_the_same():
    fit = dnmf.fit(V, 3, seed=0)
    expected = dnmf.transform(V, fit)
    store = zarr.storage.MemoryStore
    sources = [
        write_dense(store(), V, (7, 4)),
        write_dense(store(), V, (60, 1)),
        write_compressed(store(), sp.csr_array(V), 20),
    ]
    for source in sources:
        for block_size in (1, 10**6):
            W = dnmf.transform(source, fit, block_size=block_size)
            np.testing.assert_allclose(W, expected, rtol=1e-6, atol=1e-8 * expected.max())


@pytest.mark.parametrize("scale", [1e-25, 1e25])
def test_transform_is_free_of_the_scale_of_h(scale):
    H = np.random.default_rng(0).random((3, 15))
    X = V.astype("float32")
    W = dnmf.transform(X, H)
    with np.errstate(all="ignore"):
        other = dnmf.transform(X, H * scale)
    np.testing.assert_allclose(other * scale, W, rtol=1e-3, atol=1e-4 * W.max())


def test_transform_refuses_what_does_not_fit(tmp_path):
    fit = dnmf.fit(V, 3, **QUICK)
    with pytest.raises(OptionError, match="H is 3 x 15, but V has 14 columns"):
        dnmf.transform(V[:, :14], fit, out=tmp_path / "W")
    bad = V.copy()
    bad[7, 3] = -1
    with pytest.raises(InputError, match=r"V\[7, 3\] is -1"):
        dnmf.transform(bad, fit, out=tmp_path / "W")
    with pytest.raises(RunError, match="nowhere"):
        dnmf.transform(V, tmp_path / "nowhere")
    assert list(tmp_path.iterdir()) == []


def test_transform_of_zeros_is_zero():
    fit = dnmf.fit(V, 3, **QUICK)
    assert not dnmf.transform(np.zeros((4, 15)), fit).any()


def test_a_plan_is_what_a_fit_does(tmp_path):
    write_dense(tmp_path / "V.zarr", V, (10, 15))
    report = dnmf.plan(tmp_path / "V.zarr", 3, block_size=1, sample=0)
    fit = dnmf.fit(tmp_path / "V.zarr", 3, block_size=1, **QUICK)
    told = json.loads(json.dumps(report.to_json()))
    assert told["blocks"] == fit.details["layout"]["blocks"] == 6
    assert told["bytes_per_read"] == V.nbytes == fit.history[0]["bytes_read"]
    assert told["shape"] == [60, 15]
    assert {"data", "matrix", "blocks", "segments"} <= {label for label, _ in report.lines()}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["V.zarr"]


def test_a_plan_refuses_what_a_fit_would():
    small = Resources(2, 4, 100 * MIB, "two small workers")
    with pytest.raises(MemoryPlanError, match="a worker would need"):
        dnmf.plan(V, 3, resources=small)
    with pytest.raises(OptionError, match="plan has no option models, shuffle"):
        dnmf.plan(V, 3, shuffle=True, models=4)
    with pytest.raises(OptionError, match="two names of one option"):
        dnmf.plan(V, 3, n_components=4)


def test_client_or_executor_not_both():
    with pytest.raises(OptionError, match="either client or executor, not both"):
        dnmf.fit(V, 3, client=object(), executor=Serial())


def test_opening_what_is_no_run(tmp_path):
    (tmp_path / "other").mkdir()
    for path in (tmp_path / "nowhere", tmp_path / "other"):
        with pytest.raises(RunError, match=path.name):
            dnmf.open(path)
        with pytest.raises(RunError, match=path.name):
            dnmf.resume(path)


def test_the_public_names_are_there():
    assert {"NMF", "Result", "fit", "open", "plan", "resume", "transform"} <= set(dir(dnmf))
    with pytest.raises(AttributeError, match="partial_fit"):
        dnmf.partial_fit  # noqa: B018
