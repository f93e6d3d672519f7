"""Matrices on disk, and two ways to run the program on them."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import click.testing
import pytest
import zarr
from cli_tools import command, planted

from dnmf.cli.main import cli

Run = Callable[..., click.testing.Result]


@pytest.fixture
def V(tmp_path: Path) -> Path:
    """A dense Zarr array, 240 x 30, in chunks of 10 rows: 24 blocks at 1200 bytes each."""
    path = tmp_path / "V.zarr"
    array = zarr.create_array(path, shape=(240, 30), chunks=(10, 30), dtype="float32")
    array[:] = planted(240, 30)
    return path


@pytest.fixture
def run() -> Run:
    """Run the program in this process."""

    def invoke(*arguments: object) -> click.testing.Result:
        result = click.testing.CliRunner().invoke(cli, [str(part) for part in arguments])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return invoke


@pytest.fixture
def program() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run the program in a process of its own."""

    def start(*arguments: object, **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command(*arguments),
            capture_output=True,
            text=True,
            timeout=120,
            env={**os.environ, **variables},
        )

    return start
