"""How a process ends that does not wait for Python to take its modules apart."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest

import dnmf

PROGRAM = """
import atexit, sys
from dnmf.quick_exit import QuickExit

class Part:
    def __del__(self):
        print("taken apart")

part = Part()
part.circle = part
ending = QuickExit(%s)
atexit.register(print, "handler")
print("work", end=" ")
sys.exit(%d)
"""


def run(program: str, **options) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", program], text=True, timeout=60, **options)


@pytest.mark.parametrize("code", [0, 3])
def test_handlers_run_output_arrives_and_the_code_is_told(code: int) -> None:
    done = run(PROGRAM % (code, code), capture_output=True)
    assert (done.stdout, done.stderr, done.returncode) == ("work handler\n", "", code)


def test_without_a_code_python_ends_the_process() -> None:
    done = run(PROGRAM % (None, 3), capture_output=True)
    assert (done.stdout, done.stderr, done.returncode) == ("work handler\ntaken apart\n", "", 3)


def test_finalizers_and_handlers_of_logging_run() -> None:
    program = (
        "import logging.handlers, sys, weakref\n"
        "class Part: pass\n"
        "part = Part()\n"
        "weakref.finalize(part, print, 'finalizer')\n"
        "target = logging.StreamHandler(sys.stdout)\n"
        "logging.getLogger().addHandler(logging.handlers.MemoryHandler(9, 99, target))\n"
        "logging.getLogger().warning('logged')\n"
        "from dnmf.quick_exit import QuickExit\n"
        "QuickExit(0)\n"
    )
    done = run(program, capture_output=True)
    assert (sorted(done.stdout.split()), done.returncode) == (["finalizer", "logged"], 0)


def test_output_that_nobody_reads_is_an_error_as_always() -> None:
    quick = "import sys; from dnmf.quick_exit import QuickExit; QuickExit(0); "
    with subprocess.Popen(
        [sys.executable, "-c", quick + "sys.stdin.read(); print('lost')"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={key: value for key, value in os.environ.items() if key != "PYTHONUNBUFFERED"},
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stdin is not None
        process.stdout.close()
        process.stdin.close()
        assert process.stderr is not None
        message = process.stderr.read()
        assert process.wait(60) == 120
    assert message == "error: the last output could not be written: [Errno 32] Broken pipe\n"


def test_the_program_tells_its_exit_code() -> None:
    main = "import sys; sys.argv[1:] = %r; from dnmf.cli.main import main; main()"
    assert run(main % ["--version"], capture_output=True).stdout.startswith("dnmf")
    refused = run(main % ["inspect", "/nowhere/at/all"], capture_output=True)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr.startswith("error: /nowhere/at/all does not exist")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full here")
def test_a_fit_whose_output_cannot_be_written_goes_on(tmp_path) -> None:
    np.save(tmp_path / "V.npy", np.random.default_rng(0).gamma(1, size=(30, 8)))
    arguments = ["fit", str(tmp_path / "V.npy"), "-k", "2", "--workers", "0"]
    program = [sys.executable, "-m", "dnmf", *arguments, "--out", str(tmp_path / "W")]
    with open("/dev/full", "w") as full:
        done = subprocess.run(program, stdout=full, stderr=subprocess.PIPE, text=True, timeout=100)
    assert done.returncode == 120
    assert done.stderr == "error: the output could not be written: No space left on device\n"
    assert dnmf.open(tmp_path / "W").done
