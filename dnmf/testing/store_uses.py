"""Uses of a run store in its contract: by other processes, and by a fit."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from typing import Any

import numpy as np

from dnmf.config import FitConfig, ModelSpec
from dnmf.fitting.data.context import Context
from dnmf.fitting.loop import run
from dnmf.planning.plan import Plan, make_plan
from dnmf.results.in_memory import result_in_memory
from dnmf.runs.base import ObjectRef, RunStore
from dnmf.sources import open_source
from dnmf.steps.events import Committed, Listener
from dnmf.steps.serial import Serial

__all__ = [
    "RACE",
    "STEP",
    "CutOffError",
    "assert_equal_fits",
    "cut_off_in_pass_2",
    "fit_in",
    "latest_of",
    "process_on",
    "said_by",
    "small_matrix",
    "values_of",
]

_OPENED = "import pickle, sys; store = pickle.loads(bytes.fromhex(sys.argv[1]))\n"
RACE = """
from dnmf.errors import RunLockedError
for index in range(int(sys.argv[3])):
    print("ready", flush=True)
    sys.stdin.readline()
    try:
        store.commit(index, {"by": int(sys.argv[2])})
        print("won", flush=True)
    except RunLockedError:
        print("lost", flush=True)
"""
STEP = """
import os, signal
import numpy as np
index, record = store.latest()
arrays = [np.full(3, 10 * (index + 1) + s) for s in range(3)]
refs = [store.put(f"{index + 1}/W-0-{s}", array) for s, array in enumerate(arrays)]
print(refs[0].name, refs[0].checksum, flush=True)
if sys.argv[2] == "between":
    os.kill(os.getpid(), signal.SIGKILL)
names = [ref.name for ref in refs]
store.commit(index + 1, {"kind": "pass", "W": [ref.to_json() for ref in refs]}, names)
store.drop([*names, *(name for name, _ in record["W"])], index)
"""


def process_on(store: RunStore, program: str, *words: str) -> subprocess.Popen[str]:
    """Start a program that finds the store as ``store`` and the words in ``sys.argv[2:]``."""
    command = [sys.executable, "-c", _OPENED + program, pickle.dumps(store).hex(), *words]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=environment)


def said_by(process: subprocess.Popen[str]) -> str:
    """Wait for the next line that a program prints."""
    assert process.stdout is not None
    return process.stdout.readline().strip()


def latest_of(store: RunStore) -> tuple[int, dict[str, Any]]:
    """Read the latest record, which exists."""
    found = store.latest()
    assert found is not None
    return found


def values_of(store: RunStore, record: dict[str, Any]) -> list[Any]:
    """Read the arrays that a record of `STEP` names."""
    return [store.get(ObjectRef.from_json(value)).tolist() for value in record["W"]]


class CutOffError(Exception):
    """Ends a fit in a test, as a process that ends does."""


def cut_off_in_pass_2(event: Any) -> None:
    """Listen until pass 2 over V is committed, and end the fit there."""
    if isinstance(event, Committed) and event.kind == "pass" and event.rows[-1]["pass"] == 2:
        raise CutOffError


def small_matrix() -> np.ndarray:
    """Draw a V of 120 x 15."""
    return np.random.default_rng(0).gamma(0.5, size=(120, 15)).astype(np.float32)


def _ignore(event: Any) -> None:
    """Take an event and do nothing."""


def fit_in(store: RunStore, V: np.ndarray, listen: Listener = _ignore) -> Any:
    """Fit V in a store, from its latest record on where it has one."""
    models = (ModelSpec(3, 1),)
    config = FitConfig(models=models, tol=0, max_passes=4, block_size=2048, segments=4, n_init=2)
    laid_out, source = make_plan(open_source(V), config)
    if store.latest() is None:
        store.create(laid_out.to_json())
    context = Context(store, Plan.from_json(store.plan()), source)
    return result_in_memory(context, run(context, Serial(), listen))


def assert_equal_fits(mine: Any, reference: Any) -> None:
    """Compare factors and objectives bit for bit."""
    assert np.array_equal(mine.W, reference.W)
    assert np.array_equal(mine.H, reference.H)
    rows = [[row["objective"] for row in fit.history] for fit in (mine, reference)]
    assert rows[0] == rows[1]
