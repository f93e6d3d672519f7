"""What a run in memory keeps of a record is what a file would give back."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dnmf.runs.records import decode, encode, rounded_trip

NUMPY = st.sampled_from([np.float64(0.1), np.float32(0.5), np.int32(3), np.bool_(True)])
KEYS = st.text("ab") | st.integers() | st.booleans() | st.none()
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(exclude_categories=["Cs"]))
    | NUMPY
    | st.just(np.arange(3.0)),
    lambda inner: st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(KEYS, inner),
    max_leaves=20,
)


@given(st.dictionaries(KEYS, VALUES))
def test_a_copy_is_what_writing_and_reading_gives(content):
    assert repr(rounded_trip(content)) == repr(decode(encode(content)))


def test_nothing_is_shared():
    content = {"a": [1, {"b": [2]}]}
    copy = rounded_trip(content)
    content["a"][1]["b"].append(3)
    assert copy == {"a": [1, {"b": [2]}]}


@pytest.mark.parametrize("value", [{1, 2}, b"bytes", object(), 1j])
def test_what_json_cannot_hold_is_refused(value):
    with pytest.raises(TypeError, match="a record cannot hold"):
        rounded_trip({"a": [value]})
    with pytest.raises(TypeError):
        json.dumps(value)
