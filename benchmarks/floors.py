"""What a pass cannot be faster than: the products alone, the device alone, the work alone."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from multiprocessing import get_context
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import numpy as np

from dnmf.executors.local import WORKER_ENVIRON
from dnmf.interop import as_source
from dnmf.linalg.blas import one_thread
from dnmf.losses import get_loss
from dnmf.losses.values import Block
from dnmf.planning.plan import Plan

__all__ = ["CpuTime", "PassInput", "cpu_of_pass", "products_alone"]


def products_alone(V: np.ndarray, starts: Sequence[int], k: int, threads: int) -> float:
    """Seconds of V_b H' and W_b' V_b of all blocks, and nothing else.

    Every thread works on one block at a time with BLAS on one thread, as tasks do.

    Parameters
    ----------
    V : (n, d) array
        In memory.
    starts : sequence of int
        First row of every block, then n.
    """
    rng = np.random.default_rng(0)
    H = rng.random((k, V.shape[1]), np.float32)
    tallest = max(b - a for a, b in pairwise(starts))
    W = rng.random((tallest, k), np.float32)

    def both(span: tuple[int, int]) -> None:
        block = V[span[0] : span[1]]
        block @ H.T
        W[: len(block)].T @ block

    spans = list(pairwise(starts))
    with one_thread(), ThreadPoolExecutor(threads) as pool:
        list(pool.map(both, spans[:threads]))  # threads and buffers are there before the clock
        began = perf_counter()
        list(pool.map(both, spans))
        return perf_counter() - began


@dataclass(frozen=True)
class PassInput:
    """What decides the work of one pass.

    Attributes
    ----------
    path : Path
        V.
    plan : Plan
    H : (k, d) array
        Rows of unit norm.
    W : (n, k) array
        Warm start.
    """

    path: Path
    plan: Plan
    H: np.ndarray
    W: np.ndarray


@dataclass(frozen=True)
class CpuTime:
    """CPU seconds of one thread's work for a whole pass.

    Attributes
    ----------
    read : float
        Reading and decoding blocks.
    compute : float
        The two products and the W-step.
    """

    read: float
    compute: float


def cpu_of_pass(what: PassInput) -> CpuTime:
    """Do the work of a pass block by block in one thread; no reading ahead, no scheduling.

    CPU seconds of the process (other threads that decode included), so that waiting for a disk
    or for another program does not count. In a process of its own, which begins as workers do:
    malloc there keeps the buffers of blocks instead of asking the system for zeroed pages.
    """
    with _environ(WORKER_ENVIRON), ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(_work_of_pass, what).result()


@contextmanager
def _environ(values: dict[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _work_of_pass(what: PassInput) -> CpuTime:
    source, plan = as_source(str(what.path)), what.plan
    limits = plan.limits.losses
    loss, tau = get_loss(plan.config.loss, limits=limits), limits.W_tau
    factor = loss.prepare(what.H, plan.sparse)
    k, d = what.H.shape
    read = compute = 0.0

    def segment_work(segment: int) -> Iterator[tuple[float, float]]:
        starts = plan.segment_block_starts(segment)
        stats = loss.empty(k, d, what.H.dtype, plan.sparse)
        blocks = source.read_blocks(starts)
        for a, b in pairwise(starts):
            began = process_time()
            V = next(blocks)
            reading = process_time() - began
            sums, W = _sums(V), what.W[a:b].copy()
            began = process_time()
            loss.update_block(Block(V, a, sums), W, factor, stats, tau=tau, residual=False)
            yield reading, process_time() - began

    with one_thread():
        next(segment_work(0))  # kernels are loaded before the clock
        for segment in range(plan.segments):
            for reading, computing in segment_work(segment):
                read += reading
                compute += computing
    return CpuTime(read, compute)


def _sums(V: Any) -> np.ndarray:
    """Sums and sums of squares of rows, (2, m) float64: a pass has them from the scan."""
    if isinstance(V, np.ndarray):
        squares = np.einsum("ij,ij->i", V, V, dtype=np.float64)
        return np.stack([V.sum(axis=1, dtype=np.float64), squares])
    square = V.copy()
    square.data = square.data.astype(np.float64) ** 2
    return np.stack([np.asarray(X.sum(axis=1), np.float64).ravel() for X in (V, square)])
