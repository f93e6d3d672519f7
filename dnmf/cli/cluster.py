"""Where a command runs: in this process, on a local cluster that it starts, or on one that runs."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from dnmf.errors import OptionError

if TYPE_CHECKING:
    from dnmf.executors.threads import Threads

__all__ = ["ClusterOptions"]


@dataclass(frozen=True)
class ClusterOptions:
    """The options by which a person chooses where to run.

    Attributes
    ----------
    workers : int or None
        Processes of a local cluster; 0 is this process, None is sized to the machine.
    threads : int or None
        Per worker; of this process where it works alone, by default one.
    memory : int or None
        Bytes per worker; of this process where it works alone.
    scheduler, scheduler_file : str or None
        Address, or file with the address, of a cluster that runs.
    """

    workers: int | None = None
    threads: int | None = None
    memory: int | None = None
    scheduler: str | None = None
    scheduler_file: str | None = None

    @property
    def serial(self) -> bool:
        """Whether no cluster is wanted."""
        return self.workers == 0

    def check(self) -> None:
        """Raise OptionError for options that contradict each other."""
        given = {name: value for name, value in self._pairs() if value is not None}
        local = [name for name in ("--workers", "--threads", "--memory") if name in given]
        running = [name for name in ("--scheduler", "--scheduler-file") if name in given]
        if len(running) == 2:
            raise OptionError("--scheduler and --scheduler-file name two clusters; give one")
        if running and local:
            raise OptionError(
                f"{' and '.join(local)} would start a local cluster, {running[0]} names one that "
                "runs; give one or the other"
            )

    @contextmanager
    def running(self) -> Iterator[dict[str, Any]]:
        """Give keywords that say where to run: ``client``, or ``executor`` for this process.

        A cluster that this starts ends with the context; one that ran already goes on running.
        Says where to watch it.

        Raises
        ------
        ClusterError
            The scheduler does not answer.
        """
        if self.serial:
            yield {"executor": self._alone()}
            return
        from dnmf.executors.local import start_local

        with (
            self._connected()
            if self._running
            else start_local(self.workers, self.threads, self.memory)
        ) as client:
            _print_dashboard(client)
            yield {"client": client}

    @contextmanager
    def offered(self) -> Iterator[dict[str, Any]]:
        """Give keywords for ``dnmf.plan``: where a fit would run. Starts no cluster."""
        if self.serial:
            yield {"resources": self._alone().resources()}
        elif self._running:
            with self._connected() as client:
                yield {"client": client}
        else:
            from dnmf.executors.local import local_resources

            yield {"resources": local_resources(self.workers, self.threads, self.memory)}

    def arguments(self) -> str:
        """Return the options as one would type them; starts with a blank unless empty."""
        return "".join(
            f" {name} {shlex.quote(str(value))}"
            for name, value in self._pairs()
            if value is not None
        )

    @property
    def _running(self) -> bool:
        return self.scheduler is not None or self.scheduler_file is not None

    def _connected(self) -> Any:
        from dnmf.executors.local import connect

        return connect(address=self.scheduler, scheduler_file=self.scheduler_file)

    def _alone(self) -> Threads:
        from dnmf.executors.threads import Threads

        return Threads(self.threads or 1, self.memory)

    def _pairs(self) -> list[tuple[str, int | str | None]]:
        return [
            ("--workers", self.workers),
            ("--threads", self.threads),
            ("--memory", self.memory),
            ("--scheduler", self.scheduler),
            ("--scheduler-file", self.scheduler_file),
        ]


def _print_dashboard(client: Any) -> None:
    """Say where to watch the cluster, if it says."""
    link = getattr(client, "dashboard_link", None)
    if link:
        with suppress(OSError):
            click.echo(f"dashboard  {link}")
