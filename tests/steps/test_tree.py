"""The reduction tree: one order of additions, whoever executes it."""

from __future__ import annotations

from itertools import pairwise

import pytest

from dnmf.errors import TransientError
from dnmf.steps import retries
from dnmf.steps.retries import leaf_with_retries
from dnmf.steps.tree import combine_tree, tree_levels

LEAVES = [*range(1, 35), 63, 64, 65, 127, 256, 257, 1000]


def level_by_level(leaves: int, fan_in: int):
    """The same tree, every level made before the next: what a cluster does."""
    nodes = list(range(leaves))
    while len(nodes) > 1:
        nodes = [tuple(nodes[i : i + fan_in]) for i in range(0, len(nodes), fan_in)]
    return nodes[0]


@pytest.mark.parametrize("fan_in", [2, 3, 4, 5, 8, 64])
def test_equals_level_by_level(fan_in):
    for leaves in LEAVES:
        assert combine_tree(fan_in, leaves, lambda i: i, tuple) == level_by_level(leaves, fan_in)


@pytest.mark.parametrize("fan_in", [2, 3, 4, 8])
def test_levels_count_the_nodes(fan_in):
    for leaves in LEAVES:
        made = []

        def combine(parts, made=made):
            made.append(len(parts))
            return 0

        combine_tree(fan_in, leaves, lambda i: i, combine)
        assert len(made) == sum(tree_levels(leaves, fan_in))
        assert max(made, default=0) <= fan_in
        assert (tree_levels(leaves, fan_in) or [1])[-1] == 1


def test_few_partial_sums_are_held_at_once():
    fan_in, leaves, held, most = 4, 1000, 0, 0

    def leaf(index):
        nonlocal held, most
        held += 1
        most = max(most, held)
        return index

    def combine(parts):
        nonlocal held
        held -= len(parts) - 1
        return parts[0]

    combine_tree(fan_in, leaves, leaf, combine)
    assert held == 1
    assert most <= fan_in * len(tree_levels(leaves, fan_in))


def test_leaves_are_made_in_order_and_once():
    order = []
    combine_tree(3, 50, order.append, lambda parts: None)
    assert order == list(range(50))


class Fails:
    """A leaf that fails some times before it succeeds."""

    def __init__(self, times: int, error: Exception) -> None:
        self.left, self.error, self.calls = times, error, 0

    def leaf(self, segment: int, loaded: None = None) -> list[int]:
        self.calls += 1
        if self.calls <= self.left:
            raise self.error
        return [segment]


@pytest.mark.parametrize("times", [0, 1, 3])
def test_a_leaf_is_tried_again_where_a_failure_may_pass(monkeypatch, times):
    monkeypatch.setattr(retries, "PAUSES", (0.0, 0.0, 0.0))
    failing = Fails(times, TransientError("slow storage"))
    assert leaf_with_retries(failing, 7) == ([7], times)
    assert failing.calls == times + 1


def test_pauses_between_tries_grow(monkeypatch):
    slept = []
    monkeypatch.setattr(retries.time, "sleep", slept.append)
    assert leaf_with_retries(Fails(3, TransientError("slow storage")), 7) == ([7], 3)
    assert len(slept) == 3
    assert slept[0] >= 0.05
    assert all(later >= 2 * pause for pause, later in pairwise(slept))


def test_a_leaf_is_not_tried_for_ever(monkeypatch):
    monkeypatch.setattr(retries, "PAUSES", (0.0, 0.0, 0.0))
    failing = Fails(99, TransientError("slow storage"))
    with pytest.raises(TransientError):
        leaf_with_retries(failing, 0)
    assert failing.calls == 4


def test_other_failures_are_not_tried_again():
    failing = Fails(1, ValueError("wrong"))
    with pytest.raises(ValueError, match="wrong"):
        leaf_with_retries(failing, 0)
    assert failing.calls == 1
