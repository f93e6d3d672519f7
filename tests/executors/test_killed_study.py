"""SIGKILL of workers in the midst of a study: every model has the bits of an undisturbed one."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from executor_tools import OPTIONS, PASSES, SEGMENTS, decisions, faulty, written

import dnmf
from dnmf.steps.serial import Serial
from dnmf.testing import faults
from dnmf.testing.faults import Fault

pytestmark = [pytest.mark.timeout(180), pytest.mark.cluster]

STUDY: dict[str, Any] = {name: OPTIONS[name] for name in OPTIONS if name not in ("k", "seed")}
STUDY |= {"ks": [2, 3, 4], "seeds": 2, "folds": 2, "slab_size": 8 * 20 * 16}
LOSSES = ["frobenius", "kullback-leibler"]
SAMPLED = {"sample": 0.5, "sample_bytes": 8 << 10, "n_init": 2, "max_passes": 2}

POINTS = {
    "scan": Fault("block-read", "kill", {"segment": 20}),
    "solved": Fault("segment-solved", "kill", {"step": 2, "segment": 11}),
    "written": Fault("segment-written", "kill", {"step": 2, "segment": 11}),
    "combine": Fault("combine", "kill", {"step": 3, "part": 1}, after=4),
    "finish": Fault("finish", "kill", {"step": 4, "part": 1}),
    "publish": Fault("published", "kill", {"segment": 0}),
}


def same_study(study: Any, reference: Any) -> None:
    """Bit for bit: factors and decisions of every model, and what the folds measured."""
    assert study.done
    assert study.models == reference.models
    for one, other in zip(study.results, reference.results, strict=True):
        np.testing.assert_array_equal(one.W[:], other.W[:])
        np.testing.assert_array_equal(one.H[:], other.H[:])
        assert decisions(one.history) == decisions(other.history)


CASES: dict[str, dict[str, Any]] = {loss: {"loss": loss} for loss in LOSSES}
CASES["sampled"] = SAMPLED


@pytest.fixture(scope="module")
def serial(undisturbed: Any, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Any]:
    """Studies that nothing disturbed, by name: 6 whole models and 6 that leave out."""
    folder = tmp_path_factory.mktemp("studies")

    @cache
    def study(name: str) -> Any:
        options = {**STUDY, **CASES[name]}
        return dnmf.fit_many(undisturbed.V, out=folder / name, executor=Serial(), **options)

    return study


def killed(client: Any, V: str, folder: Path, plan: list[Fault], **options: Any) -> Any:
    """A study on a cluster whose workers die; each fault strikes once."""
    with faulty(client, folder / "faults", plan) as counts:
        study = dnmf.fit_many(V, out=folder / "out", client=client, **{**STUDY, **options})
        assert [faults.struck(counts, number) for number in range(len(plan))] == [1] * len(plan)
        if options.get("sample", 0) == 0:
            for step in range(1, PASSES + 1):
                assert written(counts, step) >= SEGMENTS
    return study


@pytest.mark.chaos
def test_workers_die_in_every_step_of_a_study(
    streaming: Any, undisturbed: Any, serial: Callable[[str], Any], tmp_path: Path
) -> None:
    plan = [POINTS[name] for name in ("scan", "written", "combine", "finish")]
    study = killed(streaming, undisturbed.V, tmp_path, plan)
    same_study(study, serial("frobenius"))


@pytest.mark.chaos
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize("kept", [False, True], ids=["streaming", "in memory"])
def test_a_worker_dies_in_a_study(
    request: pytest.FixtureRequest,
    undisturbed: Any,
    serial: Callable[[str], Any],
    tmp_path: Path,
    kept: bool,
    point: str,
    loss: str,
) -> None:
    client = request.getfixturevalue("client" if kept else "streaming")
    study = killed(client, undisturbed.V, tmp_path, [POINTS[point]], loss=loss)
    same_study(study, serial(loss))


@pytest.mark.chaos
@pytest.mark.parametrize(
    "fault",
    [
        Fault("object-written", "kill", {"kind": "race"}),
        Fault("segment-solved", "kill", {"step": 3}),
        Fault("finish", "kill", {"step": 4, "part": 1}),
    ],
    ids=["race", "sample", "slab"],
)
def test_a_worker_dies_over_the_sample_of_a_study(
    streaming: Any, undisturbed: Any, serial: Callable[[str], Any], tmp_path: Path, fault: Fault
) -> None:
    study = killed(streaming, undisturbed.V, tmp_path, [fault], **SAMPLED)
    same_study(study, serial("sampled"))
