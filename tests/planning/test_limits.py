"""Constants of a run are those that it began with."""

from __future__ import annotations

import json
from dataclasses import is_dataclass

import numpy as np
import pytest

import dnmf
from dnmf.config import FitConfig, ModelSpec
from dnmf.fitting.models.objective import loss_of
from dnmf.planning import limits
from dnmf.planning.limits import Limits
from dnmf.planning.plan import Plan, make_plan
from dnmf.sources import open_source

V = np.random.default_rng(0).random((60, 8)).astype(np.float32)


def test_limits_come_back_from_json() -> None:
    own = Limits().changed({"h_part_bytes": 7, "race": {"passes": 3}, "losses": {"W_tau": 0.5}})
    assert (own.h_part_bytes, own.race.passes, own.losses.W_tau) == (7, 3, 0.5)
    assert own.race.tol == Limits().race.tol
    assert Limits.from_json(json.loads(json.dumps(own.to_json()))) == own
    kinds = {type(x) for x in vars(own).values() if not is_dataclass(x)}
    assert kinds == {int}


@pytest.mark.parametrize("wrong", [{"no_such": 1}, {"race": {"no_such": 1}}])
def test_no_other_limit_is_taken(wrong: dict[str, object]) -> None:
    with pytest.raises(TypeError, match="no_such"), limits.using(**wrong):
        pass


def test_a_plan_keeps_its_limits() -> None:
    config = FitConfig((ModelSpec(2, 0),), loss="kullback-leibler")
    with limits.using(losses={"kl_steps": 7}):
        plan, _ = make_plan(open_source(V), config)
    again = Plan.from_json(json.loads(json.dumps(plan.to_json())))
    assert again.limits == plan.limits != limits.current()
    assert loss_of(again, 60).limits.kl_steps == 7


CHANGES: list[tuple[dict[str, dict[str, float]], dict[str, object]]] = [
    ({"losses": {"W_tau": 0.5}}, {}),
    ({"losses": {"H_tau": 0.5}}, {}),
    ({"losses": {"kl_steps": 1}}, {"loss": "kullback-leibler"}),
    ({"losses": {"beta_steps": 1}}, {"loss": 0.5}),
    ({"losses": {"beta_cold_steps": 30}}, {"loss": 0.5}),
    ({"losses": {"W_sweeps": 1}}, {"missing": "nan"}),
    ({"stop": {"first_step": 0.1}}, {"sample": 0, "n_init": 1}),
    ({"stop": {"growth": 1.0}}, {"sample": 0, "n_init": 1}),
    ({"race": {"passes": 1, "dear_passes": 1}}, {}),
    ({"search": {"first_passes": 2}}, {}),
    ({"nndsvd": {"small": 0.1}}, {"init": "nndsvdar", "n_init": 1}),
    ({"temper": {"warmth": 0.9}}, {"loss": 0.5}),
    ({"temper": {"shakes": 0}}, {"loss": 0.5}),
]


@pytest.mark.parametrize(("change", "options"), CHANGES, ids=str)
def test_a_limit_reaches_what_it_is_for(
    change: dict[str, dict[str, float]], options: dict[str, object]
) -> None:
    """The bits of a fit are others."""
    options = {"seed": 1, "tol": 0, "max_passes": 8, "n_init": 2, **options}
    usual = np.asarray(dnmf.fit(V, 3, **options).H)
    with limits.using(**change):
        changed = np.asarray(dnmf.fit(V, 3, **options).H)
    assert (usual != changed).any()
