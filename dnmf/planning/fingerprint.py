"""The fingerprint of V: a scan records it, and V must have it when it is given again."""

from __future__ import annotations

import hashlib

import numpy as np

from dnmf.linalg.measure import checksum
from dnmf.planning.plan import Plan
from dnmf.sources.base import Source

__all__ = ["digest", "fingerprint"]


def digest(checksums: np.ndarray, source: Source) -> str:
    """Return the digest of the checksums of all blocks, in order.

    Where the source leaves out rows, that of the numbers of the others too: blocks do not know
    them.
    """
    total = hashlib.sha256(checksums.tobytes())
    if source.empty_rows:
        total.update(source.numbers().astype("<i8").tobytes())
    return total.hexdigest()[:32]


def fingerprint(plan: Plan, source: Source) -> str:
    """Return the digest of a matrix that is cut into the blocks of a plan; reads all of it.

    Parameters
    ----------
    plan : Plan
    source : Source
        Source of V as given, not oriented as the plan reads it.
    """
    oriented = plan.oriented(source)
    assert oriented is not None, "V was read by columns before"
    if oriented.shape[0] != plan.shape[0]:
        return ""  # other columns have entries
    checks = [checksum(block) for block in oriented.read_blocks(plan.block_starts)]
    return digest(np.array(checks, np.uint64), oriented)
