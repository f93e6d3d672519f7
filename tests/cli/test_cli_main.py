"""The group: lazy imports, help, exit codes, errors without traceback."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import click
import numpy as np
import pytest
import zarr
from click.testing import CliRunner

import dnmf
from dnmf.cli.main import COMMANDS, LazyGroup, cli
from dnmf.errors import InputError, ResumableError

HEAVY = ["numpy", "scipy", "dask", "distributed", "zarr", "numba", "sklearn", "rich"]


def run_program(*arguments: str, **kwargs) -> subprocess.CompletedProcess:
    """The installed program, in a process of its own."""
    command = [sys.executable, "-m", "dnmf", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=100, **kwargs)


@pytest.mark.parametrize("arguments", [["--help"], *([name, "--help"] for name in COMMANDS)])
def test_help_imports_nothing_heavy(arguments):
    code = (
        "import sys\n"
        "from dnmf.cli.main import cli\n"
        f"cli({arguments!r}, prog_name='dnmf', standalone_mode=False)\n"
        f"print('LOADED', [name for name in {HEAVY!r} if name in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert run.returncode == 0, run.stderr
    assert run.stdout.splitlines()[-1] == "LOADED []"


def test_a_dense_fit_imports_no_sparse_matrices_nor_linear_algebra_of_scipy(tmp_path):
    """It needs neither, once its kernels are compiled, and both are slow to import."""
    V = np.random.default_rng(0).uniform(size=(60, 20)).astype("f4")
    zarr.create_array(tmp_path / "V.zarr", data=V)
    given = [str(tmp_path / "V.zarr"), "-k", "3", "--workers", "0", "--overwrite"]
    code = (
        "import sys\n"
        "from dnmf.cli.main import cli\n"
        f"arguments = ['fit', *{given!r}, '--out', {str(tmp_path / 'out')!r}]\n"
        "cli(arguments, prog_name='dnmf', standalone_mode=False)\n"
        "names = ['scipy.sparse', 'scipy.linalg', 'dask', 'distributed', 'sklearn']\n"
        "print('LOADED', [name for name in names if name in sys.modules])"
    )
    for _ in range(2):  # the first may compile, which needs more
        run = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, timeout=200
        )
        assert run.returncode == 0, run.stderr
    assert run.stdout.splitlines()[-1] == "LOADED []"


def test_help_starts_fast():
    def seconds(*command: str) -> float:
        times = []
        for _ in range(3):
            start = time.perf_counter()
            subprocess.run([sys.executable, *command], check=True, capture_output=True, timeout=60)
            times.append(time.perf_counter() - start)
        return min(times)

    assert seconds("-m", "dnmf", "--help") - seconds("-c", "pass") < 0.5


@pytest.mark.parametrize("name", COMMANDS)
def test_every_help_shows_an_example(name):
    run = CliRunner().invoke(cli, [name, "--help"])
    assert run.exit_code == 0
    assert "Example" in run.output
    assert f"\n    dnmf {name}" in run.output


def test_help_lists_every_command_with_its_line():
    run = CliRunner().invoke(cli, ["--help"])
    assert [name for name in COMMANDS if f"\n  {name} " in run.output] == list(COMMANDS)


def test_version():
    run = CliRunner().invoke(cli, ["--version"])
    assert run.output == f"dnmf, version {dnmf.__version__}\n"


def test_the_changelog_and_the_citation_are_of_this_version():
    root = Path(dnmf.__file__).parents[1]
    citation = (root / "CITATION.cff").read_text().splitlines()
    assert f"version: {dnmf.__version__}" in citation
    assert f"\n## {dnmf.__version__} (" in (root / "CHANGELOG.md").read_text()


def test_unknown_command_names_the_known_ones():
    run = CliRunner().invoke(cli, ["fits"])
    assert run.exit_code == 2
    assert "no command 'fits'; there are: fit, plan" in run.output


class Failing(LazyGroup):
    """A group of one command that raises ``error``."""

    error: BaseException

    def get_command(self, ctx, name):
        def fail():
            raise self.error

        from dnmf.cli.options import debug_option

        return debug_option(click.Command(name, callback=fail))


def run_failing(error: BaseException, *arguments: str):
    group = Failing("dnmf", params=cli.params)
    group.error = error
    return CliRunner().invoke(group, [*arguments])


@pytest.mark.parametrize(
    ("error", "code"), [(InputError("k is 7"), 2), (ResumableError("stopped at 7"), 3)]
)
def test_an_error_is_one_line_and_an_exit_code(error, code):
    run = run_failing(error, "fit")
    assert run.exit_code == code
    assert run.stderr == f"error: {error}\n"
    assert run.stdout == ""


@pytest.mark.parametrize("arguments", [["--debug", "fit"], ["fit", "--debug"]])
def test_debug_adds_the_traceback(arguments):
    run = run_failing(InputError("k is 7"), *arguments)
    assert run.exit_code == 2
    assert "Traceback" in run.stderr
    assert run.stderr.endswith("error: k is 7\n")


def test_ctrl_c_with_nothing_to_resume():
    run = run_failing(KeyboardInterrupt(), "plan")
    assert run.exit_code == 130
    assert run.stderr.strip() == "interrupted"


def test_an_unexpected_exception_is_not_hidden():
    run = run_failing(ZeroDivisionError("a bug"), "fit")
    assert run.exit_code == 1
    assert isinstance(run.exception, ZeroDivisionError)


def test_bad_use_exits_with_2_in_a_real_process():
    run = run_program("fit", "V.zarr", "-k", "0", "--out", "x.zarr")
    assert run.returncode == 2
    assert "0 is not in the range x>=1" in run.stderr
    assert "Traceback" not in run.stderr


def test_a_closed_pipe_is_no_traceback():
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "dnmf", "--help"]
    run = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True, timeout=60)
    os.close(write)
    assert "Traceback" not in run.stderr
