"""What is left to ``-m slow``, what ``-m quick`` leaves out, and where files reach the disk."""

from __future__ import annotations

from typing import Any

import pytest

__all__ = ["FLUSHED", "NOT_QUICK", "NO_FLUSH", "slow"]

NOT_QUICK = {
    "benchmarks": "runs every benchmark",
    "cli/test_cli_convert.py": "starts processes",
    "cli/test_cli_demo.py": "starts processes",
    "cli/test_cli_demo_corpus.py": "reads the whole standard library",
    "cli/test_cli_fit.py": "starts processes",
    "cli/test_cli_interrupt.py": "starts processes",
    "cli/test_cli_losses.py": "starts processes",
    "cli/test_cli_main.py": "starts processes",
    "conversion/test_convert_memory.py": "measures memory",
    "deploy": "starts processes",
    "estimator/test_estimator_losses.py": "fits until converged",
    "estimator/test_estimator_stored.py": "starts processes",
    "executors/test_all_killed.py": "kills processes",
    "executors/test_killed.py": "kills processes",
    "executors/test_storage_faults.py": "breaks many runs",
    "extending": "runs whole contracts in processes",
    "fitting/test_fixed_h.py": "fits until converged",
    "fitting/test_loss_real_data.py": "fits until converged",
    "fitting/test_max_time.py": "waits",
    "fitting/test_missing.py": "fits until converged",
    "fitting/test_normalize.py": "fits until converged",
    "fitting/test_penalties.py": "fits until converged",
    "fitting/test_search.py": "fits until converged",
    "fitting/test_weights.py": "fits until converged",
    "init/test_nndsvd.py": "fits until converged",
    "interop": "most of it needs workers",
    "linalg/test_blas.py": "starts processes",
    "linalg/test_jit.py": "compiles kernels",
    "losses/test_scratch_memory.py": "measures memory",
    "planning/test_measured_memory.py": "measures memory",
    "reporting": "draws figures",
    "runs/test_published.py": "kills processes",
    "runs/test_crashes.py": "kills processes",
    "runs/test_run_paths.py": "starts processes",
    "runs/test_takeover.py": "starts processes",
    "study": "fits many models",
    "test_api_resume.py": "breaks many runs",
    "test_callers_state.py": "fits with every loss",
    "test_bad_python_input.py": "draws hundreds of cases",
    "test_damaged_stores.py": "draws hundreds of cases",
    "test_known_answers.py": "fits until converged",
    "test_properties.py": "draws hundreds of cases",
    "test_quick_exit.py": "starts processes",
    "test_readme.py": "starts processes",
}
"""Files and folders of ``tests/`` that ``-m quick`` leaves out, and why.

Besides, it leaves out what is marked as slow, chaos or cluster.
"""

FLUSHED = ("test_power_cut", "test_expected_files", "benchmarks")
"""Where files are flushed to the disk, because it is what is tested or measured."""

NO_FLUSH = "import os\nos.fsync = lambda handle: None\n"
"""Run by workers when they start, as a preload of Dask."""


def slow(*cases: Any) -> list[Any]:
    """The cases of a parametrization, each marked as slow; a tuple is one set of arguments.

    They are more of what one or two of their kind show at any time.
    """
    return [
        pytest.param(*(case if isinstance(case, tuple) else (case,)), marks=pytest.mark.slow)
        for case in cases
    ]
