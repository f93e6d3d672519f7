"""What a run in memory keeps of a record is what a file would give back."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from dnmf.runs.records import frozen, rounded_trip, thawed

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner) | st.dictionaries(st.text("ab"), inner),
    max_leaves=20,
)


@given(st.dictionaries(st.text("abc"), VALUES))
def test_frozen_and_thawed_is_written_and_read(content):
    found = thawed(frozen(content))
    assert repr(found) == repr(rounded_trip(content))
    assert found is not content


def test_numbers_of_numpy_become_those_of_python():
    found = thawed(frozen({"a": np.float64(0.1), "b": [np.int32(3)], "c": np.arange(2.0)}))
    assert repr(found) == "{'a': 0.1, 'b': [3], 'c': [0.0, 1.0]}"


def test_nothing_is_shared():
    content = {"a": [1, {"b": [2]}]}
    kept = frozen(content)
    content["a"][1]["b"].append(3)
    thawed(kept)["a"].clear()
    assert thawed(kept) == {"a": [1, {"b": [2]}]}
