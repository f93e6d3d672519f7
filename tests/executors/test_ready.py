"""What a worker of a local cluster does first and last."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import dask
import pytest

from dnmf.executors.local import start_local

pytestmark = pytest.mark.timeout(120)


AHEAD = """
import sys
from importlib import import_module
from pkgutil import iter_modules
from dnmf.executors import ready
ready._import_all()
kinds = import_module("dnmf.fitting.kinds")
names = [module.name for module in iter_modules(kinds.__path__, "dnmf.fitting.kinds.")]
print(len(names) > 3, [name for name in names if name not in sys.modules])
"""


def test_what_is_imported_ahead_has_every_kind_of_work() -> None:
    """The modules are given by their names, which nothing else would find wrong."""
    done = subprocess.run([sys.executable, "-c", AHEAD], capture_output=True, text=True)
    assert done.stdout == "True []\n", done.stderr


def _imported() -> bool:
    import sys
    import threading

    from dnmf.executors.ready import AHEAD

    there = set(AHEAD) <= set(sys.modules)
    return there and not any(thread.name == "dnmf-imports" for thread in threading.enumerate())


def _at_the_end(path: str) -> None:
    """What is taken apart when Python ends writes one file, a handler another."""
    import atexit
    import builtins
    from pathlib import Path

    class Part:
        def __del__(self, write=Path.write_text, path=Path(path, "taken-apart")) -> None:
            write(path, "")

    builtins.part = Part()  # type: ignore[attr-defined]
    atexit.register(Path(path, "handler").write_text, "")


def test_a_worker_imports_ahead_and_ends_at_once(tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    with (
        dask.config.set({"temporary-directory": str(scratch)}),
        start_local(1, 1, dashboard=None) as client,
    ):
        deadline = time.monotonic() + 60
        while not all(client.run(_imported).values()):
            assert time.monotonic() < deadline, "nothing was imported before it was needed"
            time.sleep(0.05)
        (handler,) = client.run(signal.getsignal, signal.SIGINT).values()
        assert handler == signal.SIG_IGN
        client.run(_at_the_end, str(tmp_path))
        assert list(scratch.rglob("worker-*"))
    assert os.listdir(tmp_path).count("handler") == 1
    assert not (tmp_path / "taken-apart").exists()
    assert not list(scratch.rglob("worker-*"))  # what the worker wrote went with it
