"""The choice of k: which one, why, and how sure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from dnmf.study.held_out import HeldOut
from dnmf.study.stability import Stability

__all__ = ["Recommendation", "recommend"]

STABLE = 0.9
"""Mean cosine of matched components from which runs count as reproducible."""


@dataclass(frozen=True)
class Recommendation:
    """A number of components and what speaks for it.

    Attributes
    ----------
    k : int or None
        None where the evidence does not single one out.
    reasons : list of str
        Sentences.
    weak : bool
        Whether the evidence is weak; the reasons say why.
    """

    k: int | None
    reasons: list[str]
    weak: bool

    def __str__(self) -> str:
        head = "No k stands out." if self.k is None else f"k = {self.k}"
        if self.k is not None:
            head += " (weak evidence)." if self.weak else "."
        return " ".join([head, *self.reasons])


def recommend(
    ks: list[int],
    held_out: HeldOut | None,
    table: Mapping[int, Stability],
    zeros: bool = False,
    no_entries: bool = False,
) -> Recommendation:
    """Weigh the evidence: held-out error decides, stability supports it.

    ``zeros`` tells whether folds left out nothing but zeros: then there may be no ``held_out``;
    ``no_entries`` whether all of these folds are empty.
    """
    nothing = "Nothing was left out"
    if zeros and held_out is None:
        nothing = "All that was left out is zeros, which tells nothing"
        nothing = "All folds are empty: none left out an entry" if no_entries else nothing
    if held_out is not None and len(held_out.ks) > 1:
        return _by_held_out(ks, held_out, table)
    if len(ks) == 1:
        text = f"Only k = {ks[0]} was fitted, so there is nothing to compare it with."
        return Recommendation(ks[0], [text, *_support(ks[0], table)], True)
    if not table:
        text = (
            f"{nothing} and every k has one run: there is no evidence about k. Study with "
            f"{'a hold-out, or with ' if nothing.startswith('Nothing') else ''}several seeds."
        )
        return Recommendation(None, [text], True)
    stable = [k for k in ks if table[k].mean >= STABLE and table[k].least > 0]
    missing = f"{nothing}, so this rests on how alike the runs are."
    if not stable:
        best = max(ks, key=lambda k: table[k].mean)
        text = (
            f"At no k are the runs alike (the best is k = {best}, mean cosine "
            f"{table[best].mean:.2f}, below {STABLE})."
        )
        return Recommendation(None, [missing, text], True)
    k = max(stable)
    text = f"k = {k} is the largest at which they are (mean cosine {table[k].mean:.2f})."
    return Recommendation(k, [missing, text], True)


def _about_empty(held_out: HeldOut) -> list[str]:
    """Say which folds do not count, and why."""
    zeros = [fold for fold in held_out.empty if fold not in held_out.no_entries]
    said = []
    for folds, one, many in (
        (
            held_out.no_entries,
            "is empty, it left out no entry",
            "are empty, they left out no entry",
        ),
        (zeros, "left out nothing but zeros", "left out nothing but zeros"),
    ):
        which = ", ".join(map(str, folds))
        if len(folds) == 1:
            said.append(f"Fold {which} {one}: without it.")
        elif folds:
            said.append(f"Folds {which} {many}: without them.")
    return said


def _by_held_out(
    ks: list[int], held_out: HeldOut, table: Mapping[int, Stability]
) -> Recommendation:
    within, best = held_out.within_one_error, held_out.best
    k, folds = min(within), held_out.errors.shape[1]
    mean, excess, error = (
        dict(zip(held_out.ks, values, strict=True))
        for values in (held_out.mean, held_out.excess, held_out.standard_error)
    )
    reasons = [
        f"The error on entries that were left out is least at k = {best} ({mean[best]:.5g} of V)."
    ]
    if held_out.empty:
        reasons += _about_empty(held_out)
    if mean[best] <= held_out.floor:
        reasons.append(
            f"From k = {k} on W H predicts it to the precision of the fits ({held_out.floor:.1g})."
        )
    elif k != best:
        reasons.append(
            f"k = {k} is the smallest that is not clearly worse: {excess[k]:.2%} more, with "
            f"a standard error of {error[k]:.2%} over {folds} folds"
            + (
                f" (below {held_out.resolution:.2%} the fits' tol does not tell)."
                if excess[k] > error[k]
                else "."
            )
        )
    smaller = [other for other in held_out.ks if other < k]
    if smaller:
        near = smaller[-1]
        reasons.append(
            f"The next smaller, k = {near}, is {excess[near]:.2%} above the least, with a standard "
            f"error of {error[near]:.2%}."
        )
    doubts = _doubts(k, held_out, table)
    return Recommendation(k, [*reasons, *_support(k, table), *doubts], bool(doubts))


def _doubts(k: int, held_out: HeldOut, table: Mapping[int, Stability]) -> list[str]:
    """Tell why the evidence is weak, if it is."""
    doubts = []
    if k == max(held_out.ks):
        doubts.append(
            f"The error still falls at the largest k tried, {max(held_out.ks)}: more may be better."
        )
    elif k == min(held_out.ks):
        doubts.append(f"k = {k} is the smallest tried: smaller k may do as well.")
    within = held_out.within_one_error
    if k != min(held_out.ks) and not _clear(k, held_out):
        near = held_out.ks[held_out.ks.index(k) - 1]
        doubts.append(
            f"k = {near} is worse by less than two standard errors: the folds hardly tell the two "
            "apart."
        )
    if not _clear(k, held_out) and len(within) > max(3, len(held_out.ks) // 2):
        doubts.append(
            f"The folds do not tell {len(within)} of the {len(held_out.ks)} numbers apart "
            f"(k = {min(within)} to {max(within)} are within one standard error)."
        )
    gain = 1 - held_out.mean.min() / held_out.mean[0]
    if held_out.ks[0] < held_out.best and gain < 0.01:
        doubts.append(
            f"The best k lowers the held-out error by only {gain:.2%} from k = {held_out.ks[0]}."
        )
    if k in table and table[k].mean < STABLE:
        stable = [other for other in table if table[other].mean >= STABLE]
        also = f" (they are at k = {', '.join(map(str, sorted(stable)))})" if stable else ""
        doubts.append(f"But its runs are not alike{also}: components of one run need care.")
    return doubts


def _clear(k: int, held_out: HeldOut) -> bool:
    """Tell whether the next smaller k is worse by more than two standard errors."""
    before = held_out.ks.index(k) - 1
    return before >= 0 and bool(held_out.excess[before] > 2 * held_out.standard_error[before])


def _support(k: int, table: Mapping[int, Stability]) -> list[str]:
    """Tell what the runs of this k say."""
    if k not in table:
        return ["Every k has one run, so nothing is known of its stability."]
    s = table[k]
    several = (
        "all runs agree" if s.solutions == 1 else f"{s.runs} runs gave {s.solutions} solutions"
    )
    weakest = int(np.argmin(s.components))
    return [
        f"Stability at k = {k}: {several}; matched components have a mean cosine of {s.mean:.3f} "
        f"(the least stable, component {weakest}, {s.components[weakest]:.3f}), silhouette "
        f"{s.silhouette:.2f}, cophenetic correlation {s.cophenetic:.3f}."
    ]
