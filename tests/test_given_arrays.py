"""H and rows of H that are given: their range, their scale, and the runs that they belong to."""

from __future__ import annotations

import numpy as np
import pytest

import dnmf
from dnmf.errors import InputError, OptionError

rng = np.random.default_rng(0)
X = rng.gamma(1, size=(40, 3)) @ rng.gamma(1, size=(3, 8))
V = X.astype(np.float32)
H = dnmf.fit(X, 3, seed=0).H


@pytest.mark.parametrize("factor", [1e40, 1e-44, 1e-50])
def test_an_H_outside_the_range_of_the_dtype_is_refused(factor):
    for call in (
        lambda **o: dnmf.transform(V, H * factor, **o),
        lambda **o: dnmf.fit(V, init=H * factor, seed=0, **o),
        lambda **o: dnmf.fit(V, 3, fixed_H=X[:1] * factor, seed=0, **o),
    ):
        with pytest.raises(OptionError, match="as largest entry of a row; in float32"):
            call()
    W = dnmf.transform(V, H * factor, dtype="float64")  # the remedy
    np.testing.assert_allclose(W @ (H * factor), X, rtol=1e-5)


def test_within_the_range_scale_does_not_matter():
    expected = dnmf.transform(V, H)
    for factor in (1e-30, 1e15):
        W = dnmf.transform(V, H * factor).astype(float) * factor
        np.testing.assert_allclose(W, expected, rtol=1e-4, atol=1e-4)


def test_rows_whose_products_leave_the_range_are_refused():
    with pytest.raises(InputError, match=r"largest entry of V is .* at most 1e\+15"):
        dnmf.transform((X * 1e37).astype(np.float32), H)
    assert (dnmf.transform(np.zeros((2, 8)), H) == 0).all()


@pytest.mark.parametrize("normalize", ["components", "weights"])
def test_a_penalty_is_not_taken_for_the_same_on_rescaled_components(normalize):
    fitted = dnmf.fit(X, 3, seed=0, alpha_W=0.05, normalize=normalize)
    with pytest.raises(OptionError, match="Fit without normalize, or give alpha_W"):
        dnmf.transform(X, fitted)
    assert dnmf.transform(X, fitted, alpha_W=0).shape == (40, 3)
    plain = dnmf.fit(X, 3, seed=0, alpha_W=0.05, tol=1e-6)
    np.testing.assert_allclose(dnmf.transform(X, plain), plain.W, rtol=1e-2, atol=1e-3)
    assert dnmf.transform(X, dnmf.fit(X, 3, seed=0, normalize=normalize)).shape == (40, 3)


def test_what_is_no_fit_is_named():
    with pytest.raises(OptionError, match="it must be a result, its path, or an array H"):
        dnmf.transform(X, dnmf.NMF(3).fit(X))


def test_a_transform_is_no_fit_to_go_on_with(tmp_path):
    dnmf.transform(X, H, out=tmp_path / "t.zarr")
    with pytest.raises(OptionError, match="no fit to go on with"):
        dnmf.fit(X, init=H, seed=0, out=tmp_path / "t.zarr", resume=True)
    assert dnmf.open(tmp_path / "t.zarr").W.shape == (40, 3)


def _dask_of(path):
    da = pytest.importorskip("dask.array")
    part = da.from_zarr(str(path / "W"))
    return da.concatenate([part, da.from_array(X[:, :2], chunks=(40, 2))], axis=1)


def test_what_a_dask_graph_reads_is_not_overwritten(tmp_path):
    path = tmp_path / "p.zarr"
    H = dnmf.fit(X, 3, seed=0, out=path).H[:]
    V = _dask_of(path)
    lazily = V.map_blocks(lambda block: block + 1) @ np.ones((5, 8))
    for given, weights in ((V, None), (X, lazily)):
        with pytest.raises(dnmf.errors.OutputExistsError, match="contains the data to read"):
            dnmf.fit(given, 3, weights=weights, out=path, overwrite=True)
    np.testing.assert_array_equal(dnmf.open(path).H[:], H)
    # Persisted: nothing is read any more.
    again = dnmf.fit(lazily.persist(), 3, seed=0, out=path, overwrite=True)
    assert again.shape == (40, 8)


def test_lazy_variables_of_xarray_are_not_overwritten(tmp_path):
    xr = pytest.importorskip("xarray")
    path = tmp_path / "p.zarr"
    fitted = dnmf.fit(X, 3, seed=0, out=path)
    lazy = xr.DataArray(_dask_of(path), dims=("x", "y"))
    with pytest.raises(dnmf.errors.OutputExistsError, match="contains the data to read"):
        dnmf.fit(lazy, 2, out=path, overwrite=True)
    assert fitted.H.shape == (3, 8)


def test_a_transform_does_not_overwrite_its_fit(tmp_path):
    path = tmp_path / "p.zarr"
    dnmf.fit(X, 3, seed=0, out=path)
    for fit in (path, dnmf.open(path)):
        with pytest.raises(dnmf.errors.OutputExistsError, match="contains the data to read"):
            dnmf.transform(X, fit, out=path, overwrite=True)
    da = pytest.importorskip("dask.array")
    lazy = da.from_array(X, chunks=(10, 8))
    model = dnmf.NMF(3, out=path, overwrite=True, random_state=0).fit(lazy)
    with pytest.raises(OptionError, match="where the fit's own result is"):
        model.transform(lazy, out=path)
    assert dnmf.open(path).H.shape == (3, 8)


def test_weights_and_entries_must_stay_in_range_together():
    weights = np.full(V.shape, 1e12, np.float32)
    with pytest.raises(InputError, match="the square of the other"):
        dnmf.fit(V * np.float32(1e12), 2, seed=0, weights=weights)
    assert dnmf.fit(V * np.float32(1e8), 2, seed=0, weights=weights / 1e8).passes > 0


def test_weights_are_refused_for_what_the_loss_is_not_for_what_V_is():
    with pytest.raises(OptionError, match=r"weights \(weights=\) are known to the losses"):
        dnmf.fit(X + 1, 2, weights=np.ones_like(X), loss="itakura-saito")
