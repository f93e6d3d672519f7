"""A fit that max_time ends: wherever it is then, what it gives has every row of V."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

import dnmf
from dnmf.cli.main import cli
from dnmf.errors import OptionError
from dnmf.fitting import loop
from dnmf.fitting.model_state import ModelState, Pair, Stop
from dnmf.fitting.record import Record, State
from dnmf.planning.limits import Limits
from dnmf.runs.base import ObjectRef
from dnmf.steps.events import Committed
from dnmf.testing.layouts import write_dense
from dnmf.testing.problems import planted_poisson

V = planted_poisson(600, 30, 4, dtype="float64").dense
SAMPLED: dict[str, Any] = {"seed": 0, "sample_bytes": V.nbytes // 5, "tol": 0, "max_passes": 6}
PLAIN: dict[str, Any] = {"sample": 0, "n_init": 1, "seed": 0, "tol": 0}


@pytest.mark.parametrize("loss", ["frobenius", "kullback-leibler", 0.5])
@pytest.mark.parametrize("out", [None, "run"])
def test_time_that_is_over_on_the_sample(tmp_path, loss, out):
    """The first pass over V ends it, as in an undisturbed fit; the sample's pair is no result."""
    X, kinds = V + 0.1, []

    def listen(event):
        if isinstance(event, Committed):
            kinds.append(event.kind)

    options = {**SAMPLED, "loss": loss}
    where = out and tmp_path / out
    fit = dnmf.fit(X, 4, out=where, max_time=1e-9, on_event=listen, **options)
    W, H = np.asarray(fit.W), np.asarray(fit.H)
    assert W.shape == (600, 4)
    assert fit.done
    assert fit.passes == len(fit.history) == 1
    assert fit.stop_reason == "stopped after max_time = 1e-09 s and 1 passes"
    if loss == "frobenius":
        assert fit.objective == pytest.approx(0.5 * np.sum((X - W @ H) ** 2), rel=1e-9)
    assert {"sample", "pass"} <= set(kinds)
    undisturbed = dnmf.fit(X, 4, **{**options, "max_passes": 1})
    np.testing.assert_array_equal(undisturbed.W, W)
    np.testing.assert_array_equal(undisturbed.H, H)


def _clock(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """A clock that the test sets."""
    now = {"s": 0.0}
    fake = SimpleNamespace(monotonic=lambda: now["s"], perf_counter=time.perf_counter)
    monkeypatch.setattr(loop, "time", fake)
    return now


def test_a_model_whose_turn_has_not_come_gets_its_pass(monkeypatch):
    """Groups that memory made take turns: the first one ends, the others have a pass each."""
    models = (_model(pair=True), _model(pair=False), _model(pair=True, why="done"))
    record = Record(state=State(models=models))
    config = dnmf.config.FitConfig((dnmf.config.ModelSpec(2, 0),))
    plan = SimpleNamespace(config=config, limits=Limits())
    now = _clock(monkeypatch)
    process = loop._Run(SimpleNamespace(plan=plan), None, lambda event: None, 2.0, "a")
    assert loop._end_by_time(process, record) is record
    now["s"] = 2.0
    stops = [model.stop for model in loop._end_by_time(process, record).state.models]
    sentence = (
        "stopped after max_time = 2 s and 3 passes: the decrease still to be expected is 2.0e-03 "
        "of the objective"
    )
    ended = Stop("max_time", sentence)
    assert stops == [ended, None, Stop("done", "done")]
    sampling = Record(state=State(phase="sample", models=models))
    assert loop._end_by_time(process, sampling) is sampling


def _model(pair: bool, why: str | None = None) -> ModelState:
    found = Pair((), (0,), (), 1.0, ObjectRef("", ""), (1.0,), (0,), (1.0,)) if pair else None
    return ModelState(found, (), passes=3, remaining=2e-3, stop=Stop(why, why) if why else None)


def _interrupted(matrix: Any, path: Any, **options: Any) -> None:
    def stop(event):
        if isinstance(event, Committed) and event.kind == "pass":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        dnmf.fit(matrix, 4, out=path, on_event=stop, **PLAIN, **options)


@pytest.mark.parametrize("begun", [None, 3600.0])
def test_max_time_of_a_resumed_run_is_its_own(tmp_path, begun):
    """It need not have been given at the start, and the sentence names the one that was over."""
    _interrupted(V, tmp_path / "run", max_time=begun)
    fit = dnmf.fit(V, 4, out=tmp_path / "run", max_time=1e-6, resume=True, **PLAIN)
    assert fit.stop_reason == "stopped after max_time = 1e-06 s and 1 passes"
    assert fit.W.shape == (600, 4)
    assert fit.config["max_time"] == begun


def test_resume_takes_max_time(tmp_path):
    write_dense(tmp_path / "V.zarr", V, (100, 30))
    _interrupted(tmp_path / "V.zarr", tmp_path / "run")
    with pytest.raises(OptionError, match="max_time is -1; it must be more than 0 seconds"):
        dnmf.resume(tmp_path / "run", max_time=-1)
    arguments = ["resume", str(tmp_path / "run"), "--max-time", "1e-9", "--workers", "0"]
    done = CliRunner().invoke(cli, arguments)
    assert done.exit_code == 0, done.output
    assert "stopped after max_time = 1e-09 s and 1 passes" in done.output
