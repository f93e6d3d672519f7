"""Compiled kernels that another process may have written."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from dnmf.linalg.compile_lock import CompileLock

CALL = """
import json, sys
import numpy as np
from dnmf.linalg.products import _sumsq_difference
A, B = np.arange(64.0).reshape(8, 8), np.zeros((8, 8))
step = int(sys.argv[1])
found = _sumsq_difference(A[:, ::step], B[:, ::step])
hits = sum(_sumsq_difference.stats.cache_hits.values())
compiler = "numba.typed.typeddict" in sys.modules
print(json.dumps([found, hits, compiler]))
"""
COMPILE = """
import sys, tempfile
import numpy as np, scipy.sparse as sp, zarr
from dnmf.testing.layouts import write_compressed, write_dense
from numba.core.types import unliteral
import dnmf
from dnmf.steps.serial import Serial
V = np.random.default_rng(0).poisson(1.0, (60, 20)).astype("float32")
sparse = sp.csr_array(V)
# some blocks are locked: views of what is given, and a sample that a run keeps in its folder
stored = write_compressed(zarr.storage.MemoryStore(), sparse, 100)
dense = write_dense(zarr.storage.MemoryStore(), V, (20, 20))
def fit(matrix, **options):
    with tempfile.TemporaryDirectory() as folder:
        for out in (None, folder + "/fit"):
            dnmf.fit(matrix, 3, seed=0, max_passes=2, out=out, executor=Serial(), **options)
for loss, solver in ("kullback-leibler", None), ("kullback-leibler", "mu"), ("frobenius", None):
    for matrix in (V, dense, sparse, stored):
        fit(matrix, loss=loss, solver=solver)
    if solver is None:
        for matrix in (sparse, stored):
            fit(matrix, loss=loss, missing="zeros")
kernels = 0
for name, module in list(sys.modules.items()):
    if name.startswith("dnmf.linalg."):
        for kernel in vars(module).values():
            signatures = getattr(kernel, "signatures", ())
            kernels += bool(signatures)
            # nor for arrays that are locked, whose type is another
            kinds = [" ".join(str(unliteral(kind)) for kind in types) for types in signatures]
            shared = {kind.replace("readonly ", "") for kind in kinds}
            if len(shared) < len(signatures):
                print(name, kernel.__name__, *signatures, sep="\\n    ")
print(kernels)
"""
WHOLE, EVERY_SECOND = 85344.0, 41664.0


def call(cache: Path, step: int) -> tuple[float, int, bool]:
    """What was computed, kernels that came from the disk, and whether the compiler was loaded."""
    environ = {**os.environ, "NUMBA_CACHE_DIR": str(cache)}
    done = subprocess.run(
        [sys.executable, "-c", CALL, str(step)],
        capture_output=True, text=True, timeout=120, env=environ, check=True,
    )  # fmt: skip
    found, hits, compiler = json.loads(done.stdout)
    return found, hits, compiler


def test_code_for_other_strides_is_not_run(tmp_path: Path) -> None:
    """What two processes leave that compile for different types at once: the file of the one
    under the number of the other."""
    assert call(tmp_path, 1) == (WHOLE, 0, True)
    assert call(tmp_path, 2) == (EVERY_SECOND, 0, True)
    assert call(tmp_path, 2) == (EVERY_SECOND, 1, False)
    (first,) = tmp_path.rglob("*_sumsq_difference*.1.nbc")
    second = Path(str(first).replace(".1.nbc", ".2.nbc"))
    good = second.stat().st_size
    shutil.copy(first, second)
    assert second.stat().st_size != good
    assert call(tmp_path, 2) == (EVERY_SECOND, 0, True)
    assert call(tmp_path, 2) == (EVERY_SECOND, 1, False)  # written again
    assert call(tmp_path, 1) == (WHOLE, 1, False)


@pytest.mark.parametrize(("suffix", "size"), [("nbi", 0), ("nbc", 40)])
def test_a_file_of_the_cache_that_was_cut_off_is_written_again(tmp_path, suffix, size) -> None:
    call(tmp_path, 1)
    (file,) = tmp_path.rglob(f"*_sumsq_difference*.{suffix}")
    file.write_bytes(file.read_bytes()[:size])
    assert call(tmp_path, 1) == (WHOLE, 0, True)
    assert call(tmp_path, 1) == (WHOLE, 1, False)


def test_of_processes_that_start_together_one_compiles(tmp_path: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(call, [tmp_path] * 4, [1] * 4))
    assert sorted(found) == [(WHOLE, 0, True), *[(WHOLE, 1, False)] * 3]


def test_compilation_waits_for_another_process_but_not_for_ever(tmp_path: Path) -> None:
    path = str(tmp_path / "cache" / "kernel.lock")
    holder, impatient, later = CompileLock(path), CompileLock(path, 0.05), CompileLock(path, 30)
    holder.acquire()
    impatient.acquire()
    impatient.release()  # it has nothing, and takes nothing away
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(later.acquire)
        with pytest.raises(TimeoutError):
            waiting.result(0.1)
        holder.release()
        waiting.result(30)
        later.release()  # of a thread that does not have it: nothing happens
        impatient.acquire()
        assert impatient._owner is None
        pool.submit(later.release).result(30)
    impatient.acquire()
    assert impatient._owner is not None
    impatient.release()


def test_without_locks_compilation_goes_on(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    lock = CompileLock(str(tmp_path / "file" / "kernel.lock"))
    lock.acquire()
    assert lock._owner is None
    lock.release()


@pytest.mark.slow
def test_no_kernel_is_compiled_for_literal_numbers_too(tmp_path: Path) -> None:
    """Kernels that others call, with 0 here and a variable there: half of all seconds once."""
    done = subprocess.run(
        [sys.executable, "-c", COMPILE],
        capture_output=True, text=True, timeout=280, check=True,
        env={**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)},
    )  # fmt: skip
    assert int(done.stdout) > 20, done.stdout
