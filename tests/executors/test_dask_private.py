"""The parts of Dask that it does not document are still there: else this says which one is not."""

from __future__ import annotations

import ast
from importlib import import_module
from pathlib import Path

import distributed
import pytest

from dnmf.executors import dask_private, watch
from dnmf.executors.watch import workers_of

pytestmark = pytest.mark.timeout(60)

ROOT = Path(__file__).parents[2]
PARTS = [
    ("dask._task_spec", "Alias"),
    ("dask._task_spec", "DataNode"),
    ("dask._task_spec", "Task"),
    ("dask._task_spec", "TaskRef"),
    ("distributed.client", "ClosedClientError"),
    ("distributed.client", "FutureCancelledError"),
    ("distributed.client", "FuturesCancelledError"),
    ("distributed.deploy.utils", "nprocesses_nthreads"),
    ("distributed.system", "MEMORY_LIMIT"),
    ("distributed.threadpoolexecutor", "thread_state"),
    ("distributed.utils", "thread_state"),
]
DOCUMENTED = {"dask", "dask.config", "dask.system", "distributed"}


@pytest.mark.parametrize(("module", "name"), PARTS)
def test_the_part_is_there(module: str, name: str) -> None:
    gone = (
        f"distributed {distributed.__version__} has no {module}.{name} any more: find another way "
        f"in dnmf/executors/dask_private.py, or lower the upper bound in pyproject.toml"
    )
    assert hasattr(import_module(module), name), gone


def test_no_other_module_of_the_executors_imports_private_parts() -> None:
    """And the list above has all of those that one module imports."""
    found = {path.name: _private(path) for path in (ROOT / "dnmf" / "executors").glob("*.py")}
    assert found.pop("dask_private.py") == set(PARTS)
    assert {name: parts for name, parts in found.items() if parts} == {}


def _private(path: Path) -> set[tuple[str, str]]:
    """Module and name of all that a file imports from inside of Dask."""
    imports = [n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.ImportFrom)]
    return {
        (str(node.module), alias.name)
        for node in imports
        for alias in node.names
        if str(node.module).split(".")[0] in ("dask", "distributed")
        and node.module not in DOCUMENTED
    }


@pytest.mark.cluster
def test_what_is_asked_of_a_client_and_in_a_task(client: distributed.Client) -> None:
    """Attributes, which no import would miss."""
    address = dask_private.address_of(client)
    assert address == client.scheduler_info()["address"]
    workers = dask_private.identity(client, -1)["workers"]
    assert len(workers) == len(workers_of(client)) == 2
    assert dask_private.identity(client, 1)["workers"].keys() < workers.keys()
    told = client.submit(_in_a_task, pure=False).result(timeout=30)
    assert told == (True, 1, min(worker["memory_limit"] for worker in workers.values()))
    assert not dask_private.holds_a_thread()
    assert not dask_private.in_a_span()
    with dask_private.span("dnmf", "1"):
        assert dask_private.in_a_span()
    assert address in watch.where(client)


def _in_a_task() -> tuple[bool, int, int | None]:
    return (
        dask_private.holds_a_thread(),
        dask_private.threads_of_worker(),
        dask_private.memory_limit_of_worker(),
    )
