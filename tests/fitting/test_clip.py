"""``clip=``: negative entries down to a bound count as 0, are counted, and the run knows it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
import scipy.sparse as sp
import zarr
from click.testing import CliRunner

import dnmf
from dnmf.cli.main import cli
from dnmf.errors import InputError, OptionError
from dnmf.steps.events import Notice

rng = np.random.default_rng(0)
CLEAN = np.round(rng.gamma(1, size=(40, 3)) @ rng.gamma(1, size=(3, 12)), 2) + 0.01
CLEAN[rng.random(CLEAN.shape) < 0.2] = 0
V = np.where(CLEAN == 0, -1e-9, CLEAN)
COUNT = int((V < 0).sum())
OPTIONS: dict[str, Any] = {"seed": 0, "max_passes": 10}
TOLD = f"{COUNT} entries of V that were negative, down to -1e-09 (clip), count as 0"
MAKE = {
    "array": lambda V: V,
    "float32": lambda V: V.astype(np.float32),
    "csr": lambda V: sp.csr_array(V),
    "dask": lambda V: da.from_array(V, chunks=(10, 12)),
    "columns": lambda V: np.asfortranarray(V),
}


def told(call: Any) -> tuple[Any, list[str]]:
    events: list[Any] = []
    result = call(on_event=events.append)
    return result, [event.text for event in events if isinstance(event, Notice)]


@pytest.mark.parametrize("name", MAKE)
@pytest.mark.parametrize("loss", ["frobenius", "kullback-leibler"])
def test_fit_and_transform(name: str, loss: str) -> None:
    given, clean = MAKE[name](V), MAKE[name](CLEAN)
    if name == "csr":  # zeros that are stored
        clean = sp.csr_array(V)
        clean.data[clean.data < 0] = 0
    want = dnmf.fit(clean, 3, loss=loss, **OPTIONS)
    fit, notes = told(lambda **on: dnmf.fit(given, 3, loss=loss, clip=1e-9, **OPTIONS, **on))
    np.testing.assert_array_equal(fit.H, want.H)
    assert TOLD in notes
    assert fit.details["clipped"] == COUNT
    assert "clipped" not in want.details
    W, notes = told(lambda **on: dnmf.transform(given, fit, **on))  # it knows the fit's clip
    np.testing.assert_array_equal(W, dnmf.transform(clean, want))
    assert TOLD in notes
    if isinstance(given, np.ndarray):
        assert (given < 0).sum() == COUNT


@pytest.mark.parametrize("clip", [0, 0.9e-9])
def test_beyond_the_bound_is_refused(clip: float) -> None:
    fit = dnmf.fit(CLEAN, 3, **OPTIONS)
    for call in (
        lambda: dnmf.fit(V, 3, clip=clip, **OPTIONS),
        lambda: dnmf.transform(V, fit, clip=clip),
        lambda: dnmf.fit_many(V, [2], clip=clip, seeds=1, holdout=None),
    ):
        with pytest.raises(InputError, match=r"is -1e-09; .* entries are such.*clip= \(--clip\)"):
            call()


def test_other_numbers_stay() -> None:
    for value in (np.nan, np.inf, -np.inf):
        odd = V.copy()
        odd[3, 4] = value
        with pytest.raises(InputError, match=r"V\[3, 4\]"):
            dnmf.fit(odd, 2, clip=1e-9, **OPTIONS)
    odd = np.where(V < 0, np.nan, V)
    odd[3, 4] = -1e-9
    _fit, notes = told(lambda **on: dnmf.fit(odd, 2, clip=1e-9, missing="nan", **OPTIONS, **on))
    assert any("1 entry of V that was negative" in note for note in notes)
    weights = np.where(CLEAN == 0, 0.5, 1)
    alike = {"weights": weights, "clip": 1e-9, **OPTIONS}
    weighted = [dnmf.fit(X, 2, **alike).objective for X in (V, CLEAN)]
    assert weighted[0] == weighted[1]
    with pytest.raises(InputError, match=r"weights.*negative"):
        dnmf.fit(CLEAN, 2, weights=-1e-10 * weights, clip=1e-9, **OPTIONS)


def test_study_and_estimator() -> None:
    many = [dnmf.fit_many(X, [2, 3], seeds=[0, 1], clip=1e-9) for X in (V, CLEAN)]
    np.testing.assert_array_equal(many[0].result(3).H, many[1].result(3).H)
    models = [dnmf.NMF(2, random_state=0, clip=1e-9).fit(X) for X in (V, CLEAN)]
    np.testing.assert_array_equal(models[0].components_, models[1].components_)
    np.testing.assert_array_equal(models[0].transform(V), models[1].transform(CLEAN))
    with pytest.raises(OptionError, match="clip"):
        dnmf.NMF(2, clip=-1).fit(V)
    with pytest.raises(OptionError, match="clip is -1"):
        dnmf.fit(V, 2, clip=-1)


def test_runs_and_the_command(tmp_path: Path) -> None:
    zarr.create_array(tmp_path / "V.zarr", data=V, chunks=(8, 12))
    out = str(tmp_path / "out.zarr")
    options = ["-k", "3", "--clip", "1e-9", "--seed", "0", "--out", out, "--sample", "0"]
    done = CliRunner().invoke(cli, ["fit", str(tmp_path / "V.zarr"), *options])
    assert done.exit_code == 0, done.output
    fit = dnmf.open(out)
    assert fit.config["clip"] == 1e-9
    command = ["transform", str(tmp_path / "V.zarr"), out, "--out", str(tmp_path / "W.zarr")]
    done = CliRunner().invoke(cli, command)
    assert done.exit_code == 0, done.output


def test_resume_knows_it(tmp_path: Path) -> None:
    zarr.create_array(tmp_path / "V.zarr", data=V, chunks=(8, 12))
    options: dict[str, Any] = {"clip": 1e-9, "sample": 0, "tol": 0, **OPTIONS}
    want = dnmf.fit(tmp_path / "V.zarr", 3, **options)

    def stop(event: Any) -> None:
        if type(event).__name__ == "Committed":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        dnmf.fit(tmp_path / "V.zarr", 3, out=tmp_path / "out", **options, on_event=stop)
    np.testing.assert_array_equal(dnmf.resume(tmp_path / "out").H, want.H)


def test_the_count_is_kept_with_results(tmp_path: Path) -> None:
    fit = dnmf.fit(V, 3, clip=1e-9, out=tmp_path / "fit", **OPTIONS)
    dnmf.transform(V, fit, out=tmp_path / "W")
    dnmf.fit_many(V, [2], clip=1e-9, seeds=1, holdout=None, out=tmp_path / "many")
    for name in ("fit", "W"):
        assert dnmf.open(tmp_path / name).details["clipped"] == COUNT
    for name in ("fit", "W"):
        done = CliRunner().invoke(cli, ["inspect", str(tmp_path / name)])
        assert f"{COUNT} negative entries count as 0" in done.output, done.output
    dnmf.report(fit, tmp_path / "report.html")
    assert f"{COUNT} negative entries of V count as 0" in (tmp_path / "report.html").read_text()
