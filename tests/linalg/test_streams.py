"""Whatever is drawn at random has a stream of its own."""

from __future__ import annotations

import ast
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import dnmf
from dnmf.init.random import random_H
from dnmf.linalg.counter import key_of
from dnmf.linalg.streams import STARTS, Stream

PACKAGE = Path(dnmf.__file__).parent
ROWS = 1 << 32
"""More than anything that is drawn has rows, but for the sample of an endless V."""


def test_every_draw_names_its_stream() -> None:
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("uniform", "exponential"):
                found.setdefault(str(path.relative_to(PACKAGE)), []).append(
                    ast.unparse(node.args[1])
                )
    assert found == {
        "fitting/data/sample.py": ["Stream.SAMPLE"],
        "init/nndsvd.py": ["Stream.NNDSVD_RANGE", "Stream.NNDSVD_NOISE"],
        "init/random.py": ["start"],
        "linalg/counter.py": ["stream"],
        "linalg/folds.py": ["Stream.SPECKLED", "AXES[axis]"],
    }
    assert min(Stream) >= STARTS


def test_a_start_keeps_to_its_streams() -> None:
    for start in (-1, STARTS):
        with pytest.raises(ValueError, match="stream"):
            random_H(0, start, 2, 0, np.ones(3), "float32")


@given(st.integers(0, 2**64 - 1), st.integers(0, 2**42), st.integers(0, 2**42))
def test_streams_of_a_seed_never_share_a_key(seed: int, one: int, other: int) -> None:
    assert (key_of(seed, one) == key_of(seed, other)) == (one == other)


def test_no_row_of_a_stream_is_one_of_another() -> None:
    """A row's key is that of its stream plus its number: those of streams are further apart."""
    seeds = [seed + (start << 32) for seed, start in product(range(100), range(3))]
    streams = [*range(24), *Stream]  # a search draws some 20 starts
    keys = np.array([key_of(seed, s) for seed, s in product(seeds, streams)], np.uint64)
    keys.sort()
    assert np.diff(keys, append=keys[:1]).min() > ROWS  # modulo 2^64: the last one is near none
