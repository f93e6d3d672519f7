"""``ends``: which fits it compares, and what it says of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest


def test_sets_have_their_figures_and_peers(bench: Callable[..., Any]) -> None:
    ran = bench("ends", "--only", "hot", "--only", "planted sparse, Kull", "--seeds", "2")
    assert ran.exit_code == 0, ran.output
    assert {line["benchmark"] for line in ran.lines} == {"ends"}
    assert {line["case"] for line in ran.lines} == {"hot pixel", "planted sparse, Kullback-Leibler"}
    for case in ("hot pixel", "planted sparse"):
        passes = ran.line(case, "passes until the default rule stops, worst")
        assert passes["value"] >= 3
        true = ran.line(case, "share of seeds within 0.03%, or not converged")
        assert true["goal"] == ">= 0.95"
        assert len(true["details"]["sentences"]) == 2
        assert all("passes" in sentence for sentence in true["details"]["sentences"])
        best = ran.line(case, "best default objective above scikit-learn's")
        assert len(best["details"]["scikit_learn"]) == 2
        worst = min(best["details"]["scikit_learn"])
        assert best["value"] == pytest.approx(
            1e4 * (min(best["details"]["objectives"]) / worst - 1)
        )


def test_a_stuck_column_is_in_float64_and_the_same_every_time() -> None:
    from benchmarks.planted_hard import HotPixel

    one, again = (HotPixel(40, 16, 2).make(0).V for _ in range(2))
    np.testing.assert_array_equal(one, again)
    assert one.dtype == np.float64
    assert (one[:, 2] == 65535).all()
    assert np.delete(one, 2, axis=1).max() < 1000


def test_what_is_absent_is_skipped_and_unknown_names_are_refused(
    bench: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DNMF_DATA", str(tmp_path))
    ran = bench("ends", "--only", "leukemia", "--only", "genes in rows")
    assert ran.exit_code == 0
    assert all(line["value"] is None and "DNMF_DATA" in line["skipped"] for line in ran.lines)
    assert len(ran.lines) == 2
    from dnmf.errors import OptionError

    with pytest.raises(OptionError, match=r"no set is named like moon; there are: .*hot pixel"):
        bench("ends", "--only", "moon")
