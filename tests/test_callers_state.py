"""What a caller set for other code changes nothing: NumPy, warnings, pandas, Zarr, Dask, locale.

Every public function is called under each such setting, and gives the bits that it gives without.
Warnings are errors in all tests.
"""

from __future__ import annotations

import locale
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import dask
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import sklearn
import zarr
from marks import slow

import dnmf
from dnmf.executors.threads import Threads
from dnmf.linalg.own_state import own_state
from dnmf.losses import LOSSES
from dnmf.testing.layouts import write_dense

ENDS = {"float32": (1e14, 1e-38), "float64": (1e120, 1e-300)}


@contextmanager
def buffer_of(entries: int) -> Iterator[None]:
    before = np.setbufsize(entries)
    try:
        yield
    finally:
        np.setbufsize(before)


@contextmanager
def decimal_comma() -> Iterator[None]:
    """Set a locale with a decimal comma, of the machine or compiled from its sources."""
    before = locale.setlocale(locale.LC_ALL)
    with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        if not any(map(_set_locale, COMMAS)):
            compiler = shutil.which("localedef")
            if compiler is not None:
                made = [compiler, "-i", "de_DE", "-f", "UTF-8", f"{folder}/de_DE.UTF-8"]
                subprocess.run(made, capture_output=True, check=False, timeout=60)
                patch.setenv("LOCPATH", folder)
            if not _set_locale("de_DE.UTF-8"):
                pytest.skip("this machine has no locale with a decimal comma, nor its sources")
        try:
            assert locale.localeconv()["decimal_point"] == ","
            yield
        finally:
            locale.setlocale(locale.LC_ALL, before)


COMMAS = ("de_DE.UTF-8", "fr_FR.UTF-8", "de_DE.utf8", "fr_FR.utf8")


def _set_locale(name: str) -> bool:
    try:
        locale.setlocale(locale.LC_ALL, name)
    except locale.Error:
        return False
    return True


STATES: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    "floats raise": lambda: np.errstate(all="raise"),
    "floats call": lambda: np.errstate(all="call", call=_fail),
    "a small buffer": lambda: buffer_of(16),
    "short numbers": lambda: np.printoptions(precision=1, threshold=2, legacy="1.13"),
    "strings of pandas": lambda: pd.option_context("future.infer_string", True),
    "views of pandas": lambda: pd.option_context("mode.copy_on_write", True),
    "an older Zarr": lambda: zarr.config.set({"default_zarr_format": 2}),
    "Fortran's order": lambda: zarr.config.set({"array.order": "F", "async.concurrency": 1}),
    "one thread of Dask": lambda: dask.config.set({"scheduler": "synchronous"}),
    "trusted numbers": lambda: sklearn.config_context(assume_finite=True),
    "a decimal comma": decimal_comma,
}
FLOATS = [("floats raise", "float32"), ("floats raise", "float64"), ("a small buffer", "float32")]
"""What can only change arithmetic, with a dtype: tried with every loss."""


def _fail(kind: str, flag: int) -> None:
    raise AssertionError(f"NumPy called the caller: {kind}")


@cache
def matrix(dtype: str = "float64") -> np.ndarray:
    """40 x 12, no zeros, with rows as large and as small as the dtype allows."""
    rng = np.random.default_rng(0)
    V = rng.poisson(rng.gamma(0.5, size=(40, 3)) @ rng.gamma(0.5, size=(3, 12))) + 0.1
    large, small = ENDS[dtype]
    V[:3] *= large / 1e3
    V[3:6] *= small
    V[6:9] *= np.sqrt(small)
    return V.astype(dtype)


def same(found: Any, expected: Any) -> None:
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


def fit_and_transform(key: tuple[str, str | None, bool], dtype: str) -> list[Any]:
    """Fit, study and transform with one line of the registry of losses."""
    loss, solver, masked = key
    options: dict[str, Any] = {"loss": loss, "beta": 0.5 if loss == "beta" else None}
    V = matrix(dtype)
    if loss in ("beta", "itakura-saito"):  # whose powers leave the range sooner
        V = V ** (1 / 3)
    learn = {"solver": solver, "max_passes": 4}
    given = {"missing": "nan"} if masked else {}
    if masked:
        V = np.where(np.random.default_rng(1).random(V.shape) < 0.2, np.nan, V)
    results = []
    for executor in (None, Threads(2)):
        fit = dnmf.fit(V, 3, seed=0, executor=executor, **options, **learn, **given)
        results += [fit.W, fit.H, fit.objective, dnmf.transform(V[::2], fit, executor=executor)]
        penalties = {"alpha_W": 1e-3, "l1_ratio": 0.5}
        small = dnmf.fit(V, 2, seed=0, **penalties, **options, **learn, **given)
        results += [small.W, small.H]
    study = dnmf.fit_many(V, [1, 2], 2, holdout=None, **options, **learn, **given)
    return [*results, str(study.recommend()), study.result(2).H]


@cache
def undisturbed(key: tuple[str, str | None, bool], dtype: str) -> list[Any]:
    return fit_and_transform(key, dtype)


@pytest.mark.parametrize(("state", "dtype"), FLOATS, ids=str)
@pytest.mark.parametrize("key", LOSSES, ids=str)
def test_losses(key: tuple[str, str | None, bool], state: str, dtype: str) -> None:
    expected = undisturbed(key, dtype)
    with STATES[state]():
        found = fit_and_transform(key, dtype)
    same(found, expected)


def everything(folder: Path) -> list[Any]:
    """Call the public functions that are not among those of the losses' test, on all kinds of V."""
    V = matrix("float32") ** np.float32(0.25)
    path, options = write_dense(folder / "V.zarr", V, (20, 12)), {"seed": 0, "max_passes": 4}
    frame = pd.DataFrame(V, columns=[f"c{j}" for j in range(V.shape[1])])
    results: list[Any] = []
    for number, data in enumerate((path, frame, sp.csr_array(V), sp.coo_array(V), V.tolist())):
        if number < 4:
            fit = dnmf.fit(data, 2, out=folder / f"fit-{number}", **options)
            opened = dnmf.open(folder / f"fit-{number}")
            assert str(dnmf.plan(data, 2).lines())
            results += [opened.W[:], np.asarray(fit.H), dnmf.resume(fit.path).objective]
            results += [np.asarray(dnmf.transform(data, fit)), dnmf.compare(fit, opened).pairs]
        model = dnmf.NMF(2, random_state=0, max_iter=4, tol=0)
        W = model.fit_transform(data)
        results += [np.asarray(W), model.components_, np.asarray(model.transform(data))]
        results += [np.asarray(model.inverse_transform(W))]
        if number < 4:
            to = folder / f"copy-{number}.zarr"
            assert dnmf.convert(data, to).shape == V.shape
            results += [dnmf.fit(to, 2, **options).H]
    study = dnmf.fit_many(path, [1, 2], 2, folds=3, out=folder / "study", max_passes=4)
    results += [study.held_out.mean, study.held_out.standard_error, str(study.recommend())]
    results += [dnmf.plan_many(path, [1, 2]).to_json()["segments"]]
    return results


@cache
def undisturbed_everything(folder: Path) -> list[Any]:
    folder.mkdir()
    return everything(folder)


@contextmanager
def all_of(states: tuple[str, ...]) -> Iterator[None]:
    with ExitStack() as stack:
        for state in states:
            stack.enter_context(STATES[state]())
        yield


TOGETHER = [("floats raise", "a small buffer"), tuple(list(STATES)[3:-1])]
"""What is one test here, and one each if it is slow."""


@pytest.mark.parametrize("states", [*TOGETHER, *slow(*(((state,),) for state in STATES))], ids=str)
def test_public_functions(
    states: tuple[str, ...], tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    expected = undisturbed_everything(tmp_path_factory.getbasetemp() / "undisturbed")
    with all_of(states):
        found = everything(tmp_path)
    same(found, expected)


@pytest.mark.parametrize("state", ["floats raise", "a small buffer"])
def test_dask_arrays(state: str) -> None:
    """Chunks are put together, and cast, in threads of Dask and in that of the caller."""
    import dask.array as da

    V = matrix("float64")
    x = da.from_array(V, chunks=(16, 5))
    expected = dnmf.fit(V, 2, seed=0, max_passes=4, block_size=16 * 12 * 8)
    for scheduler in ("threads", "synchronous"):
        with STATES[state](), dask.config.set(scheduler=scheduler):
            found = dnmf.fit(x, 2, seed=0, max_passes=4, dtype="float64")
            with pytest.raises(dnmf.DnmfError, match="is infinite"):
                dnmf.fit(x, 2, seed=0, max_passes=4, dtype="float32")
        np.testing.assert_allclose(found.H, expected.H, rtol=1e-6)


def test_the_callers_settings_are_back(tmp_path: Path) -> None:
    """Also after an error, and in what a listener does once the fit is over."""
    V = matrix()
    with np.errstate(all="raise", under="call", call=_fail), buffer_of(32):
        before = np.geterr(), np.geterrcall(), np.getbufsize()
        for k in (2, 0):
            with nullcontext() if k else pytest.raises(dnmf.DnmfError):
                dnmf.fit(V, k, seed=0, max_passes=2, out=tmp_path / "out")
            assert before == (np.geterr(), np.geterrcall(), np.getbufsize())
        with pytest.raises(FloatingPointError):
            np.ones(1) / np.zeros(1)


def test_a_result_in_progress_is_read_in_its_own_state(tmp_path: Path) -> None:
    """Its rows are scaled when somebody asks for them."""
    seen: list[Any] = []

    def stop(event: Any) -> None:
        if type(event).__name__ == "Committed" and event.kind == "pass":
            raise KeyboardInterrupt

    V = np.tile(matrix("float32")[6:], (40, 1))
    with pytest.raises(KeyboardInterrupt):
        dnmf.fit(V, 2, seed=0, out=tmp_path / "out", on_event=stop, normalize="components")
    for raising in (False, True):
        with np.errstate(all="raise" if raising else "ignore"):
            fit = dnmf.open(tmp_path / "out")
            seen.append((fit.W[:], fit.H[:], fit.W[3], np.asarray(fit.W), list(fit.W)[5]))
    same(*seen)


WORKER = "import numpy; numpy.seterr(all='raise')"


def _divide() -> Any:
    return np.ones(1) / np.zeros(1)


@pytest.mark.cluster
@pytest.mark.timeout(120)
def test_workers(tmp_path: Path) -> None:
    """A preload sets NumPy for all tasks of a worker, the environment what warnings are."""
    from distributed import Client, LocalCluster

    V = matrix("float32") ** np.float32(0.25)
    path = write_dense(tmp_path / "V.zarr", V, (20, 12))
    settings = {
        "distributed.worker.preload": [WORKER],
        "distributed.nanny.pre-spawn-environ": {
            **dask.config.get("distributed.nanny.pre-spawn-environ"),
            "PYTHONWARNINGS": "error::RuntimeWarning",
        },
    }
    with (
        dask.config.set(settings),
        LocalCluster(
            n_workers=1,
            threads_per_worker=2,
            dashboard_address=":0",
            scheduler_kwargs={"dashboard": False},
        ) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        with pytest.raises((FloatingPointError, RuntimeWarning)):
            client.submit(_divide).result()
        for number, (loss, solver) in enumerate({key[:2]: None for key in LOSSES}):
            beta = 0.5 if loss == "beta" else None
            options = {"loss": loss, "beta": beta, "solver": solver, "seed": 0, "max_passes": 3}
            expected = dnmf.fit(path, 2, **options)
            out = tmp_path / f"fit-{number}"
            found = dnmf.fit(path, 2, client=client, out=out, **options)
            same([found.W[:], found.H[:]], [expected.W, expected.H])
            W = dnmf.transform(path, found, client=client, out=tmp_path / f"W-{number}")
            same([W[:]], [dnmf.transform(path, expected)])


def test_own_state_can_be_entered_again() -> None:
    with np.errstate(all="raise"), own_state(), own_state():
        assert set(np.geterr().values()) == {"ignore"}
        assert np.getbufsize() == 8192
