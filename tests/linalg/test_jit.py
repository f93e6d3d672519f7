"""Compiled kernels that another process may have written."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

CALL = """
import json, sys
import numpy as np
from dnmf.linalg.products import _sumsq_difference
A, B = np.arange(64.0).reshape(8, 8), np.zeros((8, 8))
step = int(sys.argv[1])
found = _sumsq_difference(A[:, ::step], B[:, ::step])
print(json.dumps([found, sum(_sumsq_difference.stats.cache_hits.values())]))
"""
WHOLE, EVERY_SECOND = 85344.0, 41664.0


def call(cache: Path, step: int) -> list[float]:
    environ = {**os.environ, "NUMBA_CACHE_DIR": str(cache)}
    done = subprocess.run(
        [sys.executable, "-c", CALL, str(step)],
        capture_output=True, text=True, timeout=120, env=environ, check=True,
    )  # fmt: skip
    found: list[float] = json.loads(done.stdout)
    return found


def test_code_for_other_strides_is_not_run(tmp_path: Path) -> None:
    """What two processes leave that compile for different types at once: the file of the one
    under the number of the other."""
    assert call(tmp_path, 1) == [WHOLE, 0]
    assert call(tmp_path, 2) == [EVERY_SECOND, 0]
    assert call(tmp_path, 2) == [EVERY_SECOND, 1]
    (first,) = tmp_path.rglob("*_sumsq_difference*.1.nbc")
    second = Path(str(first).replace(".1.nbc", ".2.nbc"))
    good = second.stat().st_size
    shutil.copy(first, second)
    assert second.stat().st_size != good
    assert call(tmp_path, 2) == [EVERY_SECOND, 0]
    assert call(tmp_path, 2) == [EVERY_SECOND, 1]  # written again
    assert call(tmp_path, 1) == [WHOLE, 1]
