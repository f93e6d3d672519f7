"""Start a cluster on this machine, or connect to one that runs."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from logging import CRITICAL

from dask import config as dask_config
from dask.system import CPU_COUNT
from distributed import Client, LocalCluster, Security, rpc

from dnmf.config import Resources
from dnmf.errors import ClusterError, OptionError
from dnmf.executors.control_groups import memory_limit
from dnmf.executors.dask_private import MEMORY_LIMIT, nprocesses_nthreads
from dnmf.executors.ready import import_ahead

__all__ = ["WORKER_ENVIRON", "connect", "local_resources", "start_local"]

_READY = "dnmf.executors.ready"

# The pools of BLAS and OpenMP are fixed before a worker imports NumPy. And glibc's malloc keeps
# what is freed, up to 64 MiB: Dask's own setting gives every buffer back at once, and a pass over
# chunks spent a quarter of its time on getting zeroed pages again (8 GB: 4.2 s instead of 3.15, for
# 10 to 45 MB more per worker). With one arena this holds per process, not per thread.
WORKER_ENVIRON = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "MALLOC_TRIM_THRESHOLD_": str(64 << 20),
    "MALLOC_MMAP_THRESHOLD_": str(32 << 20),  # the largest that glibc takes
    "MALLOC_ARENA_MAX": "1",
}


def local_resources(
    workers: int | None = None, threads: int | None = None, memory: int | None = None
) -> Resources:
    """Return what `start_local` would start with these arguments; starts nothing.

    All workers together get the processors and the memory that this process may use (also in
    a container or a batch job), unless more is asked for.
    """
    if workers is None and threads is None:
        workers, threads = nprocesses_nthreads()
    elif workers is None:
        assert threads is not None
        workers = max(1, CPU_COUNT // threads)
    elif threads is None:
        threads = max(1, CPU_COUNT // workers)
    assert threads is not None
    most = min(MEMORY_LIMIT, memory_limit() or MEMORY_LIMIT)  # Dask looks at the root group only
    limit = min(memory or most // workers, most)
    text = f"{workers} worker(s) x {threads} thread(s), {limit / 1e9:.1f} GB each"
    return Resources(workers, threads, limit, text)


@contextmanager
def start_local(
    workers: int | None = None,
    threads: int | None = None,
    memory: int | None = None,
    dashboard: str | None = ":0",
    set_as_default: bool = True,
) -> Iterator[Client]:
    """Start a cluster of worker processes on this machine, which is closed at the end.

    Parameters
    ----------
    workers, threads : int, optional
        Processes, and threads of each; by default sized to the machine.
    memory : int, optional
        Bytes of each worker; by default its share of the machine's memory.
    set_as_default : bool
        Whether the client is the one that ``dnmf.fit`` finds without being given it.
    """
    size = local_resources(workers, threads, memory)
    settings = {
        "distributed.worker.preload": [*dask_config.get("distributed.worker.preload"), _READY],
        "distributed.nanny.pre-spawn-environ": dict(WORKER_ENVIRON),
        "distributed.admin.tick.limit": "30s",
        # samples every stack 100 times a second and keeps the last thousand seconds of it
        "distributed.worker.profile.enabled": False,
        # else LocalCluster gives up a worker that happens to restart when it looks
        "distributed.deploy.lost-worker-timeout": "1000 days",
    }
    import_ahead()
    with (
        dask_config.set(settings),
        LocalCluster(
            n_workers=size.workers,
            threads_per_worker=size.threads,
            memory_limit=size.memory_limit,
            dashboard_address=dashboard,
            processes=True,
            silence_logs=CRITICAL,  # what fails is raised here; the rest is noise of closing
        ) as cluster,
        Client(cluster, set_as_default=set_as_default) as client,
    ):
        yield client


def connect(
    address: str | None = None, scheduler_file: str | None = None, timeout: float = 10.0
) -> Client:
    """Return a client of a scheduler that runs.

    Raises
    ------
    OptionError
        Not exactly one of the two is given.
    ClusterError
        The scheduler does not answer within ``timeout`` seconds.
    """
    if (address is None) == (scheduler_file is None):
        raise OptionError("give either the scheduler's address or its scheduler file, not both")
    try:
        if scheduler_file is not None:
            address = _address_in(scheduler_file, timeout)
        assert address is not None
        _ask(address, timeout)
        return Client(address, timeout=timeout)
    except TypeError as error:  # Dask's way to say that there are no certificates
        raise ClusterError(
            f"the scheduler at {address} requires TLS, and no certificates are configured here "
            f"({error}). Set distributed.comm.tls.ca-file, .client.cert and .client.key in Dask's "
            f"configuration (or DASK_DISTRIBUTED__COMM__TLS__CA_FILE, __CLIENT__CERT, ...)"
        ) from error
    except (OSError, TimeoutError, ValueError) as error:
        where = scheduler_file or address
        raise ClusterError(
            f"no scheduler answers at {where} within {timeout:.0f} s ({error}); is it running, "
            f"and reachable from here? (Where TLS is required, the address begins with tls://)"
        ) from error


def _ask(address: str, timeout: float) -> None:
    """Ask a scheduler for its identity: a ``Client`` would wait for ever for one that is silent.

    Raises
    ------
    OSError, TimeoutError, ValueError, TypeError
        There is no answer within ``timeout`` seconds, or the address is none.
    """

    async def ask() -> None:
        arguments = Security().get_connection_args("client")
        async with rpc(address, connection_args=arguments, timeout=timeout) as scheduler:
            # a second more than to connect, whose error says more
            await asyncio.wait_for(scheduler.identity(n_workers=0), timeout + 1)

    with ThreadPoolExecutor(1, "dnmf-connect") as pool:  # here a loop may run, as in a notebook
        try:
            pool.submit(asyncio.run, ask()).result()
        except (TimeoutError, MemoryError) as error:  # bytes that are no message of Dask's
            why = "something listens there that is no scheduler, or a scheduler hangs"
            raise TimeoutError(why) from error


def _address_in(path: str, timeout: float) -> str:
    """Read the scheduler's address in its file; waits for the file: a job may have just begun."""
    deadline = time.monotonic() + timeout
    while not os.path.exists(path):
        if time.monotonic() > deadline:
            raise FileNotFoundError("the file does not exist")
        time.sleep(0.1)
    with open(path, encoding="utf-8") as file:
        found = json.load(file)
    if not isinstance(found, dict) or not isinstance(found.get("address"), str):
        raise ValueError("the file holds no address")
    return str(found["address"])
