"""The tree of fixed fan-in in which parts are reduced: one order of additions for everybody."""

from __future__ import annotations

from collections.abc import Callable

from dnmf.linalg.own_state import own_state
from dnmf.steps.retries import memory_told
from dnmf.steps.work import Part, Work

__all__ = ["combine_tree", "reduce_parts", "tree_levels"]


def tree_levels(leaves: int, fan_in: int) -> list[int]:
    """Return the number of nodes on every level above the leaves, the last one 1.

    The list is empty for one leaf.
    """
    levels = []
    while leaves > 1:
        leaves = -(-leaves // fan_in)
        levels.append(leaves)
    return levels


def combine_tree(
    fan_in: int, leaves: int, leaf: Callable[[int], Part], combine: Callable[[list[Part]], Part]
) -> Part:
    """Reduce leaves in index order through the fixed tree, with few partial sums at a time.

    This equals, addition by addition, reducing level by level: a node is combined as soon as its
    last child is there. Every node is passed through ``combine``, also one with one child.
    """
    open_nodes: list[list[Part]] = [[] for _ in tree_levels(leaves, fan_in)]
    if not open_nodes:
        return leaf(0)
    for index in range(leaves):
        part, last = leaf(index), index == leaves - 1
        for level in open_nodes:
            level.append(part)
            if len(level) < fan_in and not last:
                break
            part = combine(level[:])
            level.clear()
    return part


def reduce_parts(work: Work, leaf: Callable[[int], list[Part]]) -> list[Part]:
    """Reduce every part of a work; ``leaf`` gives the parts of a segment, in index order."""

    def combine(nodes: list[list[Part]]) -> list[Part]:
        with memory_told(), own_state():
            return [work.combine(p, [node[p] for node in nodes]) for p in range(work.parts)]

    return combine_tree(work.fan_in, work.segments, leaf, combine)
