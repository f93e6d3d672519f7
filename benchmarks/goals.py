"""The goals: what a full run on two cores should reach. `--check` compares with them."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.figures import Goal
from benchmarks.machine import fastest_kernels

__all__ = [
    "CHUNKS_PASS",
    "DISK_PASS",
    "EFFICIENCY",
    "HARD",
    "KL_PER_ITERATION",
    "KL_READS",
    "MEMORY_LIMIT",
    "MEMORY_PREDICTION",
    "NOTHING",
    "NOT_MORE",
    "OVERHEAD",
    "PEERS_DENSE",
    "PEERS_SMALL",
    "PEERS_SPARSE",
    "READS_MEDIAN",
    "READS_SMALL",
    "READS_STOPPED",
    "READS_WORST",
    "SAME",
    "START_CLUSTER",
    "START_SERIAL",
    "STUDY_PEER",
    "STUDY_READS",
    "STUDY_SINGLE",
    "HardGoals",
    "memory_pass",
]

DISK_PASS = Goal(1.2)
MEMORY_LIMIT = Goal(0.7)
MEMORY_PREDICTION = Goal(1.5)
NOTHING = Goal(0)

READS_MEDIAN = Goal(4)
READS_WORST = Goal(6)
READS_STOPPED = Goal(8)
READS_SMALL = Goal(1)
NOT_MORE = Goal(1)
KL_READS = Goal(10)
KL_PER_ITERATION = Goal(10, at_least=True)

NONE = (None, None)


@dataclass(frozen=True)
class HardGoals:
    """Of ``reads --hard``; of two goals the first is for the median, the second for the worst."""

    near: tuple[Goal | None, Goal | None] = NONE
    nearer: tuple[Goal | None, Goal | None] = NONE
    stopped: tuple[Goal | None, Goal | None] = NONE
    true: Goal | None = None
    peers: Goal | None = None
    found: Goal | None = None


_TRUE, _PEERS = Goal(0.95, at_least=True), Goal(1)  # hundredths of a percent

HARD = {
    "hard": HardGoals((Goal(4), Goal(6)), (Goal(9), Goal(14)), (Goal(7), Goal(10)), _TRUE, _PEERS),
    "planted": HardGoals(
        (Goal(1.4), Goal(2.4)), (Goal(3.5), None), (Goal(3), Goal(4)), _TRUE, _PEERS
    ),
    "missing": HardGoals((Goal(8), Goal(12)), true=_TRUE),
    "other": HardGoals(true=_TRUE, peers=_PEERS, found=Goal(0.95, at_least=True)),
}
"""By the kind of a set."""

PEERS_DENSE = Goal(4, at_least=True)
PEERS_SPARSE = Goal(3, at_least=True)
PEERS_SMALL = Goal(1, at_least=True)

OVERHEAD = Goal(0.1)
EFFICIENCY = Goal(0.9, at_least=True)
CHUNKS_PASS = Goal(1.3)

STUDY_READS = Goal(2)
STUDY_SINGLE = Goal(3, at_least=True)
STUDY_PEER = Goal(5, at_least=True)
SAME = Goal(1e-5)

START_CLUSTER = Goal(3)
START_SERIAL = Goal(1.2)


def memory_pass() -> Goal:
    """Of a pass over V in memory: products take less of it where BLAS is fast."""
    return Goal(1.5 if fastest_kernels() else 1.3)
