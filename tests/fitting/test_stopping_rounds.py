"""What a fit makes of what rounds predict, and of passes that refuse it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dnmf.config import FitConfig, ModelSpec
from dnmf.fitting.model_state import ModelState, Pair, Prospect
from dnmf.fitting.stopping import PassResult, advance, after_rounds
from dnmf.planning.limits import StopLimits
from dnmf.runs.base import ObjectRef

CONFIG = FitConfig((ModelSpec(1, 0),), tol=1e-4)
REF = ObjectRef("H", "0")
PAIR = Pair((REF,), (0, 1), (REF,), 100.0, REF, (1.0,), (0,), (1.0,))
STATE = ModelState(PAIR, (REF,), accepted=4, passes=4, Y=(REF,))


@pytest.mark.parametrize(
    ("prospect", "predicted", "left"),
    [
        (Prospect(), 1e-3, 3e-3),  # the first one counts three times
        (Prospect(before=4e-3), 1e-3, 1e-3 / 0.75),
        (Prospect(before=1e-3), 9.5e-4, 9.5e-3),  # they hardly shrink
        (Prospect(before=4e-3, brought=2.0), 1e-3, 2e-3 / 0.75),  # the last one was too low
        (Prospect(before=4e-3, brought=0.5), 1e-3, 1e-3 / 0.75),
    ],
)
def test_what_is_left_follows_from_predictions(
    prospect: Prospect, predicted: float, left: float
) -> None:
    state = replace(STATE, prospect=prospect)
    found = after_rounds(state, (REF,), 5, predicted, 0.0, CONFIG, StopLimits())
    assert found.remaining == pytest.approx(left)
    assert (found.stop is not None) == (left <= 1e-4 * 100)
    assert found.Y is None
    assert found.extrapolated == (REF,)
    far = after_rounds(state, (REF,), 5, 100 * predicted, 0.0, CONFIG, StopLimits())
    assert far.stop is None


def _refused(state: ModelState) -> ModelState:
    worse = replace(PAIR, objective=100.1)
    found = PassResult(worse, (REF,), (), 0.0, 0.0, 0.0, 1.0, 100.1, 1e9)
    after, accepted = advance(state, found, CONFIG, "float32", StopLimits())
    assert not accepted
    return after


@pytest.mark.parametrize(("predicted", "ends"), [(1e-3, True), (1e3, False)])
def test_a_second_refusal_ends_a_fit_where_rounding_hides_the_prediction(
    predicted: float, ends: bool
) -> None:
    prospect = Prospect(rounds=8, predicted=predicted)
    once = _refused(replace(STATE, extrapolated=(REF,), prospect=prospect))
    assert once.stop is None
    assert once.prospect.most == 2
    assert once.extrapolated is None
    again = replace(once.prospect, rounds=8, predicted=predicted)
    twice = _refused(replace(once, extrapolated=(REF,), prospect=again))
    assert (twice.stop is not None and twice.stop.kind == "rounding") == ends
