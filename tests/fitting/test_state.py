"""A fit's state: pure transitions that accept, go back, extrapolate, revive and stop."""

from __future__ import annotations

import copy
import json
import math
import re
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dnmf.config import FitConfig, ModelSpec
from dnmf.errors import InputError
from dnmf.fitting.checks import check_objective
from dnmf.fitting.decreases import expected_decrease, tail
from dnmf.fitting.model_state import ModelState, Pair
from dnmf.fitting.stopping import (
    EXACT,
    PassResult,
    stop,
)
from dnmf.fitting.stopping import advance as advance_within
from dnmf.losses.base import rounding_unit
from dnmf.planning.limits import StopLimits
from dnmf.runs.base import ObjectRef


def refs(name):
    """One stored object."""
    return (ObjectRef(name, "x"),)


LIMITS = StopLimits()
advance = partial(advance_within, limits=LIMITS)
START = ModelState(pair=None, next_H=refs("next_H/0"))
SIZE = 100.0


def config(**options):
    return FitConfig((ModelSpec(2, 0),), **{"tol": 1e-4, "max_passes": 100, **options})


def found(objective, number=0, **facts):
    """What a pass reports: names carry its number."""
    pair = Pair(
        W=refs(f"W/{number}"),
        W_starts=(0, 10),
        H=refs(f"H/{number}"),
        objective=objective,
        WtW=ObjectRef(f"WtW/{number}", "x"),
        share=(1.0, 2.0),
        peak=(0, 1),
        W_norms=(1.0, 1.0),
    )
    values = {
        "next_H": refs(f"next_H/{number}"),
        "revived": (),
        "kkt_W": 0.1,
        "kkt_H": 0.1,
        "gain": 0.0,
        "sweeps": 2.0,
        "divergence": objective,
        "size": SIZE,
        **facts,
    }
    return PassResult(pair, **values)


def walk(objectives, options=None, dtype="float64", limits=LIMITS, **facts):
    """States after passes that found these objectives; stops where the fit does."""
    state, states = START, []
    for number, objective in enumerate(objectives, 1):
        this = found(objective, number, **facts)
        state, accepted = advance(state, this, options or config(), dtype, limits=limits)
        states.append((state, accepted))
        if state.stop:
            break
    return states


def test_the_first_pass_is_accepted_and_does_not_extrapolate():
    [(state, accepted)] = walk([50.0])
    assert accepted
    assert (state.passes, state.accepted, state.beta, state.decrease) == (1, 1, 0.0, None)
    assert state.pair.objective == 50.0
    assert (state.next_H, state.previous_H) == (refs("next_H/1"), START.next_H)


def test_falling_objectives_extrapolate_in_growing_steps():
    states = walk([50.0, 40.0, 32.0, 26.0, 21.0])
    betas = [state.beta for state, _ in states]
    assert betas[0] == 0
    assert betas[1] > 0
    assert betas == sorted(betas)
    assert all(state.beta <= state.cap <= 1 for state, _ in states)
    assert all(accepted for _, accepted in states)
    assert [state.decrease for state, _ in states] == [None, 10.0, 8.0, 6.0, 5.0]


def test_a_loss_that_cannot_extrapolate_does_not():
    states = walk([50.0, 40.0, 32.0], extrapolates=False)
    assert {state.beta for state, _ in states} == {0.0}


def test_a_rise_after_extrapolation_goes_back_to_the_pair():
    before, _ = walk([50.0, 40.0, 32.0])[-1]
    after, accepted = advance(before, found(32.001, 4), config(), "float64")
    assert not accepted
    assert after.pair == before.pair
    assert (after.next_H, after.previous_H) == (before.next_H, before.previous_H)
    assert (after.beta, after.step, after.cap) == (0.0, before.step / 2, before.step)
    assert (after.passes, after.accepted) == (4, 3)
    assert after.stop is None
    again, accepted = advance(after, found(30.0, 5), config(), "float64")
    assert accepted
    assert 0 < again.beta <= before.step


def test_an_extrapolated_h_that_raises_the_objective_gives_way_to_the_next_h():
    extrapolated = refs("extrapolated/1")
    state, _ = advance(
        START, found(50.0, 1, extrapolated=extrapolated, extrapolates=False), config(), "float64"
    )
    assert state.extrapolated == extrapolated
    after, accepted = advance(state, found(55.0, 2, extrapolates=False), config(), "float64")
    assert not accepted
    assert (after.extrapolated, after.next_H, after.stop) == (None, state.next_H, None)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_without_extrapolation_a_rise_by_rounding_is_accepted_and_more_ends_the_fit(dtype):
    before, _ = walk([50.0])[-1]
    assert before.beta == 0
    unit = rounding_unit(SIZE, dtype)
    state, accepted = advance(before, found(50.0 + 0.9 * unit, 2), config(), dtype)
    assert accepted
    assert state.decrease == 0
    state, accepted = advance(before, found(50.0 + 1.1 * unit, 2), config(), dtype)
    assert not accepted
    assert state.pair.objective == 50.0
    hidden = {
        "float64": "converged after 2 passes: rounding hides any further decrease",
        "float32": "stopped after 2 passes: rounding in float32 hides any further decrease; "
        "compute in float64 (dtype) to go on",
    }
    assert state.stop.sentence == hidden[dtype]


def test_geometric_decrease_stops_when_what_is_left_is_below_tol():
    objectives = [10 + 10 * 0.5**t for t in range(60)]
    states = walk(objectives, config(tol=1e-3))
    last, before = states[-1][0], states[-2][0]
    assert "converged" in last.stop.sentence
    # what is left of the sum of 10 * 0.5**t is the last decrease itself
    assert last.decrease <= last.remaining <= 2.5 * last.decrease
    assert last.remaining <= 1e-3 * last.pair.objective < before.remaining


def test_a_plateau_is_not_the_end_while_the_h_step_promises_more():
    objectives = [50.0, 40.0, 39.9999999, 39.99999989]
    stopped = walk(objectives, gain=0.0)[-1][0]
    crossing = walk(objectives, gain=0.5)[-1][0]
    assert "converged" in stopped.stop.sentence
    assert crossing.stop is None


def test_never_before_three_passes():
    states = walk([50.0, 50.0, 50.0, 50.0])
    assert [state.stop is None for state, _ in states] == [True, True, False]


def test_max_passes_is_the_bound_and_counts_rejected_passes():
    options = config(max_passes=4, tol=0)
    states = walk([50.0, 40.0, 30.0, 35.0, 20.0], options)
    assert len(states) == 4
    last = states[-1][0]
    assert re.fullmatch(
        r"stopped after max_passes = 4 passes, before tol = 0 was met: the decrease still to be "
        r"expected is 1\.0e\+00 of the objective",
        last.stop.sentence,
    )
    assert last.pair.objective == 30.0


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_exact_is_said_only_where_entries_say_so(dtype):
    tiny = 0.4 * EXACT[dtype] ** 2 * SIZE
    state, _ = walk([50.0])[-1]
    measured, _ = advance(state, found(tiny, 2, entrywise=True), config(), dtype)
    assert "exact after 2 passes" in measured.stop.sentence
    products, _ = advance(state, found(tiny, 2, entrywise=False), config(), dtype)
    assert products.stop is None
    above, _ = advance(state, found(2 * tiny, 2, entrywise=True), config(), dtype)
    assert above.stop is None


def test_a_revived_component_is_counted_and_waits():
    state, _ = walk([50.0, 40.0])[-1]
    options = config()
    for attempt in range(1, LIMITS.revivals + 1):
        state, accepted = advance(state, found(40.0, 3, revived=(1,)), options, "float64")
        assert accepted
        assert (state.tries, state.revive, state.beta) == ({1: attempt}, (1,), 0.0)
        assert state.stop is None
    state, _ = advance(state, found(40.0, 9), options, "float64")
    assert state.revive == ()
    assert "converged" in state.stop.sentence


def test_what_a_rejected_pass_revived_does_not_count():
    before, _ = walk([50.0, 40.0, 32.0])[-1]
    after, accepted = advance(before, found(33.0, 4, revived=(0,)), config(), "float64")
    assert not accepted
    assert (after.tries, after.revive) == ({}, ())


FINDINGS = st.lists(
    st.tuples(st.floats(0, 100), st.lists(st.integers(0, 1), max_size=2, unique=True)),
    min_size=1,
    max_size=25,
)


@given(FINDINGS, st.sampled_from(["float32", "float64"]), st.floats(0, 1e-2))
@settings(max_examples=100, deadline=None)
def test_any_course_keeps_the_best_pair_and_survives_json(findings, dtype, tol):
    options, state = config(tol=tol, max_passes=20), START
    unit, best = rounding_unit(SIZE, dtype), float("inf")
    for number, (objective, revived) in enumerate(findings, 1):
        frozen = copy.deepcopy(state.to_json())
        result = found(objective, number, revived=tuple(revived))
        after, accepted = advance(state, result, options, dtype)
        assert state.to_json() == frozen  # pure
        assert advance(state, result, options, dtype) == (after, accepted)
        assert ModelState.from_json(json.loads(json.dumps(after.to_json()))) == after
        assert after.passes == number <= 20
        assert (after.pair.objective == objective) or not accepted
        assert after.pair.objective <= best + unit
        assert all(count <= number for count in after.tries.values())
        assert 0 <= after.beta <= 1
        names = {after.pair.W[0].name, after.pair.WtW.name, after.next_H[0].name}
        assert names <= after.objects()
        best = after.pair.objective
        state = after
        if state.stop:
            break
    else:
        assert number < 20


BY_RATES = StopLimits(telling=0.0)


@pytest.mark.parametrize(
    ("decreases", "gain", "left"),
    [
        ([], 5.0, None),
        ([1.0], 5.0, None),
        ([2.0, 1.0], 0.0, 1.0),
        ([20.0, 2.0, 1.0], 0.0, 1.0),
        ([2.5, 2.0, 1.0], 0.0, 4.0),  # the slower of the last two rates
        ([20.0, 2.0, 1.0], 3.0, 3.0),
        ([1.0, 2.0], 0.0, 2.0 * LIMITS.slowest / (1 - LIMITS.slowest)),
        ([1.0, 0.9, 0.0], 0.0, 0.0),
        ([0.0, 1.0], 0.0, 0.0),
    ],
)
def test_what_is_left_by_the_last_rates(decreases, gain, left):
    found = expected_decrease(decreases, len(decreases) + 1, gain, BY_RATES)
    assert found == (left and pytest.approx(left))


@pytest.mark.parametrize("power", [1.8, 2.5, 4.0, 9.0])
@pytest.mark.parametrize("passes", [6, 30, 90])
def test_a_slow_tail_is_told_from_its_decreases(power, passes):
    """Decreases t^-p: the last rate tells a third of what is left at p = 4, a twelfth at 2.5."""
    decreases = [t**-power for t in range(2, passes + 1)]
    left = sum(t**-power for t in range(passes + 1, 200_000))
    kept = decreases[-LIMITS.decreases :]
    found = expected_decrease(kept, passes, 0.0, LIMITS)
    if power > 2:
        assert left <= found <= 1.5 * left + 2 * decreases[-1]
    else:  # not more than D_t t
        assert found == pytest.approx(max(decreases[-1] * passes, by_rates(kept)))
    by_the_rate = expected_decrease(kept, passes, 0.0, BY_RATES)
    assert found >= by_the_rate


def by_rates(decreases):
    return expected_decrease(decreases, len(decreases) + 1, 0.0, BY_RATES)


@pytest.mark.parametrize("rate", [0.1, 0.5])
def test_decreases_that_shrink_fast_are_not_taken_for_a_slow_tail(rate):
    decreases = [rate**t for t in range(2, 13)]
    left = decreases[-1] * rate / (1 - rate)
    found = expected_decrease(decreases, 12, 0.0, LIMITS)
    assert left <= found <= 2.5 * decreases[-1]


@pytest.mark.parametrize(
    ("decreases", "told"),
    [
        ([100.0, 1.0], 19.0),  # the first tells of the start: one alone counts at the slowest rate
        ([100.0, 1.0, 1.0], 4.0),  # none of them shrinks: D_t t
        ([100.0, 1.0, 0.0], 0.0),
        ([100.0, 4.0, 1.0], 4.0 / (math.log(4) / math.log(4 / 3) - 1)),
        ([5.0, 5.0, 5.0, 5.0, 1.0, 0.0, 0.0, 0.0], 0.0),  # no more than rounding hides
    ],
)
def test_few_decreases(decreases, told):
    assert tail(decreases, len(decreases) + 1, LIMITS) == pytest.approx(told)


@pytest.mark.parametrize("scale", [2.0**40, 2.0**-300, 2.0**900])
def test_the_tail_scales_with_v(scale):
    decreases = [900.0, 7.0, 4.0, 2.5, 1.9, 1.3]
    scaled = [scale * one for one in decreases]
    assert tail(scaled, 7, LIMITS) == scale * tail(decreases, 7, LIMITS)
    assert math.isfinite(tail([1e-300, 1e300, 1e-300, 1e-300], 5, LIMITS))


def test_a_valley_after_the_drop_from_the_start_is_not_the_end():
    """An air data set: .3% above the end, the third pass brought a third of the second."""
    falls = [9.5e-5, 3.3e-5, 3.1e-5, 3.0e-5, 2.8e-5, 2.9e-5, 2.8e-5, 2.7e-5]
    objectives = [50.0]
    for fall in falls:
        objectives.append(objectives[-1] - 50.0 * fall)
    assert walk(objectives)[-1][0].stop is None
    by_rates = walk(objectives, limits=BY_RATES)[-1][0]
    assert by_rates.accepted == 3
    assert by_rates.stop.kind == "converged"


def test_sentences_have_their_numbers():
    options = config(tol=1e-4, max_passes=7, max_time=2.5)
    sentences = {
        kind: stop(kind, options, 5).sentence for kind in ("converged", "max_passes", "max_time")
    }
    assert "after 5 passes" in sentences["converged"]
    assert "0.0001" in sentences["converged"]
    assert "max_passes = 7 passes" in sentences["max_passes"]
    assert sentences["max_time"] == "stopped after max_time = 2.5 s and 5 passes"


@pytest.mark.parametrize("beta", [0.0, 0.5])
def test_nan_is_never_a_decrease(beta):
    """After an extrapolation the next_H is tried; else the fit ends with the pair it has."""
    states = walk([9.0, 8.0])
    before = replace(states[-1][0], beta=beta)
    after, accepted = advance(before, found(math.nan, 3), config(), "float64")
    assert not accepted
    assert after.pair == before.pair
    if beta:
        assert after.stop is None
    else:
        assert "its objective is NaN" in after.stop.sentence
        assert after.stop.sentence.startswith("stopped after 3 passes")


def test_a_first_pass_without_an_objective_is_refused():
    plan = SimpleNamespace(dtype="float32", config=config(alpha_H=0.5))
    check_objective(plan, 1.0)
    check_objective(plan, math.inf)
    with pytest.raises(InputError, match=r"is NaN: .*range of float32.*float64.*alpha_W = 0 and"):
        check_objective(plan, math.nan)
