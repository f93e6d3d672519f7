"""One thread where bits count, and a fingerprint that says what decides them."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from threadpoolctl import threadpool_info

from dnmf import blas_env
from dnmf.linalg.blas import numeric_fingerprint, one_thread, roundings


def _blas_threads() -> set[int]:
    return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}


def test_blas_runs_on_one_thread_inside_and_as_before_afterwards():
    before = _blas_threads()
    with one_thread():
        assert _blas_threads() == {1}
        with one_thread():
            assert _blas_threads() == {1}
    assert _blas_threads() == before


def _in_a_process_of_its_own(script: str) -> None:
    """Run it where no earlier test has limited BLAS for good, as a worker does."""
    subprocess.run([sys.executable, "-c", script], timeout=120, check=True)


WHOEVER_ENDS_FIRST = """
import threading
from threadpoolctl import threadpool_info, threadpool_limits
from dnmf.linalg.blas import allowed_threads, one_thread

def blas_threads():
    return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}

inside, ended, seen = threading.Event(), threading.Event(), []

def late():
    with one_thread():
        inside.set()
        ended.wait(30)
        seen.append((blas_threads(), allowed_threads()))

with threadpool_limits(2, user_api="blas"):
    before, allowed = blas_threads(), allowed_threads()
    other = threading.Thread(target=late)
    with one_thread():
        other.start()
        assert inside.wait(30)
    ended.set()
    other.join()
    assert seen == [({1}, allowed)], seen
    assert blas_threads() == before, (blas_threads(), before)
"""


@pytest.mark.timeout(150)
def test_whoever_ends_first_leaves_the_others_their_one_thread():
    """Two fits at once in threads of one process: products depend on it bitwise."""
    _in_a_process_of_its_own(WHOEVER_ENDS_FIRST)


LIMITED_FOR_GOOD = """
from threadpoolctl import threadpool_info, threadpool_limits
from dnmf.linalg.blas import limit_threads, one_thread

limit_threads()
with threadpool_limits(2, user_api="blas"), one_thread():
    found = {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}
    assert found == {1}, found
"""


@pytest.mark.timeout(150)
def test_a_number_that_other_code_has_raised_is_one_inside_again():
    """A process limited for good, as a worker is, whose user's code then raises the number."""
    _in_a_process_of_its_own(LIMITED_FOR_GOOD)


def test_the_fingerprint_says_what_it_is_made_of():
    found = numeric_fingerprint()
    assert {"numpy", "scipy", "numba", "machine", "blas", "numba_cpu", "digest"} <= set(found)
    kernels, _, rest = found["digest"].rpartition("-")
    assert kernels == "+".join(found["blas"]), "what every task leaves in the result names its own"
    assert len(rest) == 16
    assert found == numeric_fingerprint()


def test_how_tasks_rounded_is_told_apart_from_the_names():
    """A run that an earlier version began has hashes alone."""
    assert roundings(["ab", "Haswell-ab"]) == {"ab"}
    assert len(roundings(["Haswell-ab", "Haswell-cd"])) == 2


ASK = "from dnmf.linalg.blas import numeric_fingerprint as f; print(f()['digest'])"


def _digest_elsewhere(before: str = "", **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", before + ASK],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
        env={**os.environ, **environment},
    )
    return done.stdout.strip()


def test_another_process_has_the_same_fingerprint_whatever_its_threads():
    assert _digest_elsewhere(OPENBLAS_NUM_THREADS="1") == numeric_fingerprint()["digest"]


def test_what_else_a_process_has_loaded_decides_no_bits():
    others = "import scipy.linalg, sklearn.decomposition;"
    assert _digest_elsewhere(others) == _digest_elsewhere()


@pytest.mark.parametrize(("kept", "loaded"), [("Haswell", False), (None, True)])
def test_a_choice_that_was_made_is_left_alone(monkeypatch, kept, loaded):
    monkeypatch.delenv(blas_env.VARIABLE, raising=False)
    if kept:
        monkeypatch.setenv(blas_env.VARIABLE, kept)
        monkeypatch.delitem(sys.modules, "numpy")  # as at the start of a process
    assert ("numpy" in sys.modules) is loaded
    assert blas_env.prepare() is None
    assert os.environ.get(blas_env.VARIABLE) == kept


@pytest.mark.parametrize(
    ("flags", "architecture", "chosen"),
    [
        (blas_env.AVX512, "Haswell", "SkylakeX"),
        (blas_env.AVX512, "SkylakeX", None),
        (blas_env.AVX512, "", None),
        (blas_env.AVX512 - {"avx512bw"}, "Haswell", None),
        (set(), "Haswell", None),
    ],
)
def test_newer_kernels_only_where_the_processor_has_them(
    monkeypatch, tmp_path, flags, architecture, chosen
):
    asked = []
    monkeypatch.delenv(blas_env.VARIABLE, raising=False)
    monkeypatch.delitem(sys.modules, "numpy")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(blas_env, "_flags", lambda: " ".join(sorted(flags)))
    monkeypatch.setattr(blas_env, "_ask", lambda: asked.append(1) or architecture)
    for _ in range(2):  # the second time an answer is remembered
        assert blas_env.prepare() == chosen
        assert os.environ.pop(blas_env.VARIABLE, None) == chosen
    assert len(asked) == (0 if flags < blas_env.AVX512 else 1 if architecture else 2)


def test_openblas_is_asked_in_a_process_of_its_own():
    names = {name for name in blas_env._ask().split(",") if name}
    assert names == set(numeric_fingerprint()["blas"]) or os.environ.get(blas_env.VARIABLE)
