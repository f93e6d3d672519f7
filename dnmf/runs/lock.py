"""A lock: one process at a time works on a run.

It spares two processes the work of which only one's would count. It may be lost: a process that
slept for a lease (a laptop that was shut) wakes while another one works. So it is looked at before
anything is committed, and before anything is deleted.
"""

from __future__ import annotations

import functools
import os
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from types import TracebackType

from dnmf.errors import RunError, RunLockedError
from dnmf.runs.files import TEMPORARY, create_file, new_id, storage
from dnmf.runs.layout import LOCK, STATE, resume_command
from dnmf.runs.records import decode, encode

__all__ = ["HEARTBEAT", "LEASE", "Holder", "RunLock", "holder"]

LEASE = 30.0
"""Seconds without a sign of life after which another host's lock is taken over."""

HEARTBEAT = 5.0
"""Seconds between signs of life."""

_LOOKS, _LOOK_AGAIN = 5, 0.02
"""How often, and after how many seconds again, a lock is looked at before it counts as lost."""

_held: set[str] = set()
"""Tokens of the locks that this process holds: a file of its own that has another one was left
behind, by an interrupt or a storage that failed, and would else live as long as the process."""


@dataclass(frozen=True)
class Holder:
    """Says who works on a run.

    Attributes
    ----------
    host : str
    machine : str
        Host, boot and process namespace: within one, a pid means one process.
    pid : int
    started : str
        When the process started, as the machine counts it: tells apart two with one pid.
    since : str
        When it took the lock, UTC.
    token : str
        Of this one taking of the lock.
    """

    host: str
    machine: str
    pid: int
    started: str
    since: str
    token: str

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host} since {self.since}"


class RunLock:
    """Holds a run's lock, as a context manager.

    Parameters
    ----------
    path : str
        The run folder; the run exists.
    lease, heartbeat : float
        Seconds.

    Attributes
    ----------
    lost : bool
        Another process took the lock over, because this one gave no sign of life for a lease
        (`check` asks the storage instead of waiting for the next heartbeat).

    Raises
    ------
    RunLockedError
        On entering: a living process holds it.
    """

    def __init__(self, path: str, *, lease: float = LEASE, heartbeat: float = HEARTBEAT) -> None:
        self._run = path
        self._path = os.path.join(path, LOCK)
        self._lease, self._heartbeat = lease, heartbeat
        self._token = new_id()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self.lost = False

    def __enter__(self) -> RunLock:
        try:
            with storage("lock", self._path, may_pass=False):
                self._take()
            self._stop.clear()
            self._thread = threading.Thread(target=self._beat, name="dnmf-heartbeat", daemon=True)
            self._thread.start()
        except BaseException:
            self._give_back()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        try:
            if self._thread is not None:
                self._thread.join()
        finally:  # interrupted once more, maybe
            self._give_back()

    def _give_back(self) -> None:
        try:
            with suppress(OSError):
                if self._is_mine():
                    os.unlink(self._path)
        finally:
            _held.discard(self._token)  # a file left behind is one that nobody holds

    def check(self) -> None:
        """Refuse to go on where this process no longer holds the lock.

        Raises
        ------
        RunLockedError
            Another process took it over, or the file is gone.
        """
        with storage("read", self._path, may_pass=False):
            for _ in range(_LOOKS):
                if self._is_mine() or not os.path.isdir(os.path.dirname(self._path)):
                    return  # of a run that is gone, whoever writes next says so
                # A process that replaces a dead one's lock may have moved this one by mistake.
                time.sleep(_LOOK_AGAIN)
            found = _read(self._path)
        other = found[0] if found is not None else None
        text = "its lock is gone"
        if other is not None:
            text = f"{other} took it over, after {self._lease:g} seconds without a sign of life"
        raise RunLockedError(
            f"{self._run}: this process no longer works on the run: {text}. What is committed is "
            f"safe: let the other process end, or stop it and go on with "
            f"{resume_command(self._run)}"
        )

    def _take(self) -> None:
        if not os.path.isdir(os.path.join(self._run, STATE)):
            raise RunError(f"{self._run} is not a run of dnmf; there is nothing to lock")
        me = Holder(
            host=socket.gethostname(),
            machine=_machine(),
            pid=os.getpid(),
            started=_started(os.getpid()) or "",
            since=datetime.now(UTC).isoformat(sep=" ", timespec="seconds"),
            token=self._token,
        )
        for _ in range(10):
            with suppress(FileExistsError):
                _held.add(self._token)
                create_file(self._path, [encode(asdict(me))])
                return
            found = _read(self._path)
            if found is not None:
                self._refuse_living(found)
                self._put_aside(found)
        raise RunLockedError(f"{self._run}: other processes keep taking its lock; try again")

    def _refuse_living(self, found: tuple[Holder | None, float]) -> None:
        other, touched = found
        if not _lives(self._path, other, touched, self._lease):
            return
        who = str(other) if other is not None else "an unknown process"
        hint = "stop that process, or wait until it ends"
        if other is None or other.machine != _machine():
            left = max(1.0, self._lease - _age(self._path, touched))
            hint += f"; if it is dead, try again in {left:.0f} seconds"
        raise RunLockedError(f"{self._run} is being worked on by {who}: {hint}")

    def _put_aside(self, dead: tuple[Holder | None, float]) -> None:
        """Remove a dead process's lock; if it was replaced meanwhile, put that one back."""
        aside = f"{self._path}.{new_id()}"
        with suppress(FileNotFoundError):
            os.rename(self._path, aside)
            moved = _read(aside)
            if moved is not None and moved[0] != dead[0]:
                with suppress(FileExistsError):
                    os.link(aside, self._path)
            os.unlink(aside)

    def _is_mine(self) -> bool:
        found = _read(self._path)  # not by inode: numbers of deleted files are used again
        return found is not None and found[0] is not None and found[0].token == self._token

    def _beat(self) -> None:
        missed = 0
        while not self._stop.wait(self._heartbeat):
            with suppress(OSError):  # a storage that fails now may be back at the next beat
                # Twice, since a process that replaces a dead one's lock may have moved this one
                # by mistake, and puts it back.
                missed = 0 if self._is_mine() else missed + 1
                if missed == 2:
                    self.lost = True
                    return
                if not missed:
                    os.utime(self._path)


def holder(path: str, lease: float = LEASE) -> Holder | None:
    """Find the living process that works on the run at ``path``, or None."""
    lock = os.path.join(path, LOCK)
    found = _read(lock)
    return found[0] if found is not None and _lives(lock, *found, lease) else None


def _lives(lock: str, other: Holder | None, touched: float, lease: float) -> bool:
    if other is not None and other.machine == _machine():
        alive = _started(other.pid) == other.started
        return alive and (other.pid != os.getpid() or other.token in _held)
    return _age(lock, touched) < lease


def _read(path: str) -> tuple[Holder | None, float] | None:
    """Read who holds a lock (None where that is unreadable), and its last sign of life.

    None where there is no lock.
    """
    try:
        with open(path, "rb") as file:
            data = file.read()
            touched = os.fstat(file.fileno()).st_mtime
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        return Holder(**decode(data)), touched
    except (ValueError, TypeError):
        return None, touched


def _age(path: str, touched: float) -> float:
    """Return the seconds since a time, by the clock that `_now` asks."""
    return _now(os.path.dirname(path)) - touched


def _now(folder: str) -> float:
    """Ask the clock of the storage, which also stamps the heartbeats."""
    probe = os.path.join(folder, TEMPORARY + new_id())
    try:
        os.close(os.open(probe, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        try:
            return os.stat(probe).st_mtime
        finally:
            os.unlink(probe)
    except OSError:  # not writable, for somebody who only looks
        return time.time()


@functools.cache
def _machine() -> str:
    """Name what this process shares with those whose pids it sees."""
    parts = [socket.gethostname()]
    with suppress(OSError), open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        parts.append(file.read().strip())
    with suppress(OSError):
        parts.append(os.readlink("/proc/self/ns/pid"))
    if _started(os.getpid()) is None:  # nobody can be looked up here: leave it to the lease
        parts.append(new_id())
    return " ".join(parts)


def _started(pid: int) -> str | None:
    """Read when a process started, in the machine's own words; None where it does not live."""
    if sys.platform == "linux":
        try:
            with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
                values = file.read().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            return None
        return None if values[0] in "ZX" else values[19]  # state, starttime: see proc(5)
    shown = subprocess.run(
        ["ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, check=False
    )
    return shown.stdout.strip() or None
