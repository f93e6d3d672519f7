"""Named points at which tests make things go wrong; they cost nothing in an ordinary run.

With the environment variable ``DNMF_FAULTS`` naming a folder, every point that is reached is
written down there, and the faults that ``dnmf.testing.faults.plan`` put into that folder
strike: each a counted number of times, across all processes, whichever comes first.
"""

from __future__ import annotations

import errno
import json
import os
import signal
import threading
import time
from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase
from typing import Any

__all__ = ["ACTIONS", "POINTS", "VARIABLE", "matches", "reach"]

VARIABLE = "DNMF_FAULTS"
PLAN, LOG, RELEASE = "faults.json", "reached.jsonl", "release"

_PASS = ("step", "rows", "run")
_OBJECT = ("kind", "name", "segment", "path")
_RECORD = ("index", "kind", "path")
_ARRAY = ("kind", "start", "path")
_RESULT = ("group", "path")

POINTS: dict[str, tuple[str, tuple[str, ...]]] = {
    # reading V
    "block-read": ("a block of V is decoded, not yet verified", ("segment", "block")),
    "band-written": ("a band of CSR is written by a conversion or by staging", ("row",)),
    "chunk-written": ("whole chunks of a dense target are written by those", ("row", "column")),
    # a pass; ``rows`` is what the step is over, ``run`` the run folder (None in a race)
    "segment-solved": ("a leaf has W of a segment, and has stored nothing", (*_PASS, "segment")),
    "segment-written": ("a leaf has stored W of a segment", (*_PASS, "segment")),
    "combine": ("values of a part are about to be added", (*_PASS, "part")),
    "finish": ("a reduced part is about to be finished", (*_PASS, "part")),
    # rounds between two reads
    "round": ("a round is about to improve all rows of W", ("step", "run")),
    "rounds-written": ("H after the rounds of a model is stored", ("model", "step", "run")),
    # the store; ``kind`` is that of the object's name (W, H, rows, ...) or of the step
    "object-writing": ("an object is about to be written", _OBJECT),
    "object-staged": ("its temporary file is durable, and has not the name yet", _OBJECT),
    "object-written": ("an object is written; its name is not durable yet", _OBJECT),
    "plan-staged": ("the temporary file of a plan is durable", ("path",)),
    "record-writing": ("a record is about to be committed, names first", _RECORD),
    "record-staged": ("the temporary file of a record is durable", _RECORD),
    "record-linked": ("a record exists, and its name may not be durable", _RECORD),
    "record-committed": ("a record is committed", _RECORD),
    # the result; ``kind`` is W or H
    "array-writing": ("chunks of W or H of the result are about to be written", _ARRAY),
    "array-written": ("chunks of W or H of the result are durable", _ARRAY),
    "published": ("a leaf has written its chunks of the result", ("segment",)),
    "result-finishing": ("all is written but the metadata that make it a result", _RESULT),
    "result-published": ("a group of the result is complete", _RESULT),
}
"""Every point: what is so when it is reached, and the details that tell one time from another."""


def reach(point: str, **details: Any) -> None:
    """Say that the program is at ``point``.

    Parameters
    ----------
    point : str
        One of `POINTS`.
    **details
        What tells this time from others: numbers and strings. ``path`` is the file that the
        point is about; the faults that damage a file need it.
    """
    if VARIABLE in os.environ:
        _reached(os.environ[VARIABLE], point, details)


def matches(details: Mapping[str, Any], match: Mapping[str, Any]) -> bool:
    """Say whether ``details`` have all of ``match``; strings may be patterns (``"3/W-*"``)."""
    return all(
        name in details and fnmatchcase(str(details[name]), str(wanted))
        for name, wanted in match.items()
    )


def _reached(folder: str, point: str, details: Mapping[str, Any]) -> None:
    if not folder:
        return
    line = json.dumps({"point": point, "pid": os.getpid(), "details": details}, default=str)
    log = os.open(os.path.join(folder, LOG), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(log, line.encode() + b"\n")  # one write, so that processes do not mix lines
    finally:
        os.close(log)
    try:
        with open(os.path.join(folder, PLAN), encoding="utf-8") as file:
            faults = json.load(file)
    except FileNotFoundError:
        return
    for number, fault in enumerate(faults):
        hit = fault["point"] == point and matches(details, fault["match"])
        if hit and _is_turn(folder, number, fault["after"], fault["times"]):
            ACTIONS[fault["action"]](folder, fault, details)


def _is_turn(folder: str, number: int, after: int, times: int) -> bool:
    """Say whether this hit is one that strikes; creating a file settles it between processes."""
    for hit in range(after + times):
        try:
            os.close(os.open(os.path.join(folder, f"hit-{number}-{hit}"), os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            continue
        return hit >= after
    return False


def _file(fault: Mapping[str, Any], details: Mapping[str, Any]) -> str:
    if "path" not in details:
        raise RuntimeError(f"fault {fault['action']!r}: the point {fault['point']!r} has no file")
    return str(details["path"])


def _signal(number: int) -> Callable[..., None]:
    def act(folder: str, fault: Mapping[str, Any], details: Mapping[str, Any]) -> None:
        os.kill(os.getpid(), number)

    return act


def _stop(folder: str, fault: Mapping[str, Any], details: Mapping[str, Any]) -> None:
    # To this thread: sent to the process, another one may take it, and this one goes on meanwhile.
    signal.pthread_kill(threading.get_ident(), signal.SIGSTOP)


def _os_error(code: int) -> Callable[..., None]:
    def act(folder: str, fault: Mapping[str, Any], details: Mapping[str, Any]) -> None:
        raise OSError(code, os.strerror(code), details.get("path"))

    return act


def _transient(folder: str, fault: Mapping[str, Any], details: Mapping[str, Any]) -> None:
    from dnmf.errors import TransientError

    raise TransientError(f"planned fault at {fault['point']} {dict(details)}")


def _no_memory(folder: str, fault: Mapping[str, Any], details: Mapping[str, Any]) -> None:
    raise MemoryError(f"planned fault at {fault['point']}")


def _interrupt(folder: str, fault: Mapping[str, Any], details: Mapping[str, Any]) -> None:
    raise KeyboardInterrupt


def _hang(folder: str, fault: Mapping[str, Any], details: Mapping[str, Any]) -> None:
    end = time.monotonic() + fault["seconds"]
    while time.monotonic() < end and not os.path.exists(os.path.join(folder, RELEASE)):
        time.sleep(0.02)


def _eat(folder: str, fault: Mapping[str, Any], details: Mapping[str, Any]) -> None:
    eaten = []
    for _ in range(int(fault["seconds"] * 20)):
        eaten.append(b"x" * (16 << 20))
        time.sleep(0.05)


def _truncate(folder: str, fault: Mapping[str, Any], details: Mapping[str, Any]) -> None:
    path = _file(fault, details)
    os.truncate(path, os.path.getsize(path) // 2)


def _flip(folder: str, fault: Mapping[str, Any], details: Mapping[str, Any]) -> None:
    with open(_file(fault, details), "r+b") as file:
        file.seek(-3, os.SEEK_END)
        byte = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte[0] ^ 1]))


def _delete(folder: str, fault: Mapping[str, Any], details: Mapping[str, Any]) -> None:
    os.unlink(_file(fault, details))


ACTIONS: dict[str, Callable[..., None]] = {
    "kill": _signal(signal.SIGKILL),
    "stop": _stop,
    "exit": lambda *_: os._exit(1),
    "interrupt": _interrupt,
    "raise-oserror": _os_error(errno.EIO),
    "enospc": _os_error(errno.ENOSPC),
    "erofs": _os_error(errno.EROFS),
    "eacces": _os_error(errno.EACCES),
    "transient": _transient,
    "no-memory": _no_memory,
    "hang": _hang,
    "eat": _eat,
    "truncate": _truncate,
    "flip": _flip,
    "delete": _delete,
}
