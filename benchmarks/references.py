"""Stored references: the best relative error that converged runs have reached."""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp

import dnmf
from benchmarks import machine
from dnmf.errors import OptionError
from dnmf.steps.serial import Serial

__all__ = [
    "REFERENCES",
    "converged_runs",
    "fingerprint",
    "load_reference",
    "missing",
    "sklearn_run",
    "store",
]

REFERENCES = Path(__file__).with_name("references.json")
CONVERGED: dict[str, Any] = {"tol": 1e-7, "max_passes": 400}
FIRST_SEED = 1000
SMALL = 20_000_000
"""Nonzeros up to which scikit-learn makes half of the runs."""

Entry = dict[str, Any]


def fingerprint(V: Any) -> dict[str, Any]:
    """What tells one matrix from another, whatever the order of its rows."""
    data = V.data if sp.issparse(V) else V
    # sums over chunks in float64, so that no copy of V is made
    flat = data.reshape(-1)
    parts = [flat[a : a + (1 << 22)].astype(np.float64) for a in range(0, flat.size, 1 << 22)]
    squares = sum(float(part @ part) for part in parts)
    total = sum(float(part.sum()) for part in parts)
    return {"shape": list(V.shape), "total": total, "sumsq": squares}


def load_reference(key: str, V: Any) -> Entry | None:
    """The stored entry of a key; None where there is none, or it is of other data."""
    stored: dict[str, Entry] = json.loads(REFERENCES.read_text())
    entry = stored.get(key)
    return entry if entry is not None and _same(entry["data"], fingerprint(V)) else None


def _same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    close = all(math.isclose(one[x], other[x], rel_tol=1e-6) for x in ("total", "sumsq"))
    return one["shape"] == other["shape"] and close


def store(key: str, entry: Entry) -> None:
    """Put an entry into ``references.json``."""
    stored = json.loads(REFERENCES.read_text())
    stored[key] = entry
    REFERENCES.write_text(json.dumps(dict(sorted(stored.items())), indent=1) + "\n")


def converged_runs(
    V: Any, k: int, runs: int, tell: Callable[[str], None], H: np.ndarray | None = None
) -> Entry:
    """The best of converged runs from different seeds, by different ways.

    In turn: dnmf by way of a sample, dnmf without one, and, where V is small, scikit-learn's
    coordinate descent.

    Parameters
    ----------
    H : (k, d) array, optional
        Planted: a run from it is recorded beside the others, and does not count.
    """
    ways: list[tuple[str, Callable[[int], float]]] = [
        ("dnmf", lambda seed: _dnmf_run(V, k, seed)),
        ("dnmf, sample=0", lambda seed: _dnmf_run(V, k, seed, sample=0.0)),
    ]
    if (V.nnz if sp.issparse(V) else V.size) <= SMALL:
        ways.append(("scikit-learn cd", lambda seed: sklearn_run(V, k, seed, "frobenius")))
    found: list[Entry] = []
    for run in range(runs):
        name, way = ways[run % len(ways)]
        error = way(FIRST_SEED + run)
        tell(f"run {run + 1} of {runs}, {name}: {error:.6f}")
        found.append({"by": name, "seed": FIRST_SEED + run, "relative_error": error})
    best = min(float(result["relative_error"]) for result in found)
    entry: Entry = {"relative_error": best, "k": k, "data": fingerprint(V)}
    if H is not None:
        entry["from_planted"] = _dnmf_run(V, k, 0, init=H.astype(np.float32))
    return {**entry, "runs": found, **_by()}


def _dnmf_run(V: Any, k: int, seed: int, **options: Any) -> float:
    result = dnmf.fit(V, k, seed=seed, executor=Serial(), **CONVERGED, **options)
    assert result.relative_error is not None
    return float(result.relative_error)


def sklearn_run(V: Any, k: int, seed: int, loss: str, **options: Any) -> float:
    """Relative error, or divergence, of scikit-learn's NMF from a random start (float64)."""
    from sklearn.decomposition import NMF
    from sklearn.exceptions import ConvergenceWarning

    V = V.astype(np.float64)
    solver = {"frobenius": "cd", "kullback-leibler": "mu"}[loss]
    chosen = {"tol": 1e-6, "max_iter": 2000, **options}
    model = NMF(k, init="random", solver=solver, beta_loss=loss, random_state=seed, **chosen)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(V)
    error = float(model.reconstruction_err_)
    if loss != "frobenius":
        return error * error / 2
    return error / math.sqrt(fingerprint(V)["sumsq"])


def _by() -> dict[str, Any]:
    return {"versions": machine.describe()["versions"], "python": machine.describe()["python"]}


def missing(key: str, size: str, loss: str) -> OptionError:
    """The error where a planted matrix has no reference."""
    return OptionError(
        f"{REFERENCES.name} has no reference of {key!r}; compute it with: python -m benchmarks "
        f"reads --reference --size {size} --loss {loss}"
    )
