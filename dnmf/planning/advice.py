"""Advice from a plan alone: what would make reads cheaper, or a result mean more."""

from __future__ import annotations

from collections.abc import Mapping
from math import log10
from typing import Any

import numpy as np

from dnmf.planning.plan import Plan
from dnmf.values import format_bytes

__all__ = ["decoded_again", "warnings"]

WORTH_SAYING = 0.5
"""A warning is due when the bytes decoded more than once in a pass exceed this share of V's."""

FEW = 0.05
"""Share of V's bytes that is decoded more than once with the chunks that are advised."""


def warnings(plan: Plan) -> list[str]:
    """Return sentences with numbers and a remedy; none where nothing is wrong."""
    texts = [_large_csr_chunks(plan, part) for part in _parts(plan)]
    return [text for text in (*texts, _one_penalty(plan)) if text]


def _one_penalty(plan: Plan) -> str:
    """Warn of a penalty on one factor alone, which the other factor escapes by its scale."""
    of = dict(zip(("alpha_W", "alpha_H"), plan.config.alphas, strict=True))
    less, more = sorted(of, key=lambda name: of[name])
    if plan.mode == "transform" or of[less] > 0 or of[more] == 0:
        return ""
    small, large = more[-1], less[-1]
    return (
        f"{more} is {of[more]:g} and {less} is 0: {small} can shrink while {large} grows with the "
        f"same product, so that the penalty goes to 0 and there is no minimum; the fit ends where "
        f"a pass gains little, or at max_passes. Penalise both"
    )


def decoded_again(plan: Plan) -> int:
    """Return the bytes of CSR chunks that segments share, which each decodes in every pass.

    An upper estimate: a chunk in which each segment but the first one begins.
    """
    return sum(_shared(plan, part)[1] for part in _parts(plan))


def _parts(plan: Plan) -> list[Mapping[str, Any]]:
    """Return the metadata of V, or of V within weighted data."""
    return [plan.source_metadata, plan.source_metadata.get("V") or {}]


def _shared(plan: Plan, metadata: Mapping[str, Any]) -> tuple[int, int, int]:
    """Return decoded bytes of the entries, of those that segments share, and of one chunk."""
    decoded = again = most = 0
    if plan.segments < 2 or "encoding" not in metadata:
        return decoded, again, most
    for name in ("data", "indices"):
        part = metadata[name]
        item, count = np.dtype(part["dtype"]).itemsize, part["shape"][0]
        chunk = min(part["chunks"][0], count)
        decoded += item * count
        again += item * chunk * (plan.segments - 1)
        most += item * chunk
    return decoded, again, most


def _large_csr_chunks(plan: Plan, metadata: Mapping[str, Any]) -> str:
    """Warn of CSR chunks that several segments share: each of them decodes them."""
    decoded, again, most = _shared(plan, metadata)
    if not again or again < WORTH_SAYING * decoded:
        return ""
    stored = metadata["data"]
    count, chunk = stored["shape"][0], stored["chunks"][0]
    return (
        f"chunks of {min(chunk, count):,} entries ({format_bytes(most)} decoded) are large beside "
        f"a segment of V ({format_bytes(max(plan.segment_bytes))}), and segments decode those that "
        f"they share each for itself: {format_bytes(decoded + again)} in every pass instead of "
        f"{format_bytes(decoded)}. Smaller ones are read once: dnmf convert IN OUT --to csr "
        f"--chunks {_smaller(count, plan.segments)}"
    )


def _smaller(entries: int, segments: int) -> int:
    """Return a round number of entries per chunk with which little is decoded twice."""
    wanted = max(1.0, FEW * entries / (segments - 1))
    unit = 10 ** int(log10(wanted))
    return int(wanted / unit) * unit
