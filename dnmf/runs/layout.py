"""Where things lie in a run folder, and what is at an existing path.

``out/`` is the run folder and, at the end, a Zarr group::

    out/.dnmf/plan.json           format, and the plan of the run
    out/.dnmf/records/7.json      commit record 7; the highest valid one is the run's state
    out/.dnmf/records/made-...    whose folder it is, until its first commit
    out/.dnmf/objects/...npy      arrays that records name
    out/.dnmf/lock.json           who works on it
    out/.dnmf/staged.zarr         V, where other processes could not open it, until the end
    out/.dnmf/replaced            the folder that this run replaced, until its first commit
    out/W, out/H, ...             arrays of the result
    out/zarr.json                 written last: the result is complete
"""

from __future__ import annotations

import json
import os
import shlex
import urllib.parse
from dataclasses import dataclass
from typing import Any

from dnmf.errors import OptionError, RunError
from dnmf.runs.files import TEMPORARY, storage
from dnmf.runs.objects import open_fresh
from dnmf.runs.records import decode

__all__ = [
    "FORMAT",
    "LOCK",
    "OBJECTS",
    "PLAN",
    "RECORDS",
    "REPLACED",
    "STAGED",
    "STAGED_V",
    "STAGED_WEIGHTS",
    "STATE",
    "Existing",
    "examine",
    "foreign_entries",
    "local_path",
    "path_text",
    "published_attributes",
    "read_plan",
    "read_records",
    "resume_command",
]

FORMAT = 4
"""Of run folders (plan, records and objects); another one is refused."""

STATE = ".dnmf"
PLAN = os.path.join(STATE, "plan.json")
RECORDS = os.path.join(STATE, "records")
OBJECTS = os.path.join(STATE, "objects")
LOCK = os.path.join(STATE, "lock.json")
REPLACED = os.path.join(STATE, "replaced")

STAGED_V = "staged.zarr"
STAGED_WEIGHTS = "staged-weights.zarr"
STAGED = (STAGED_V, STAGED_WEIGHTS)


def path_text(path: str | os.PathLike[str]) -> str:
    """Return the path or URL of a run or result as text.

    Raises
    ------
    OptionError
        It is something else.
    """
    text = os.fspath(path) if isinstance(path, os.PathLike) else path
    if not isinstance(text, str) or "\0" in text:
        raise OptionError(
            f"the run folder is given as {path!r:.60} ({type(path).__name__}); give its path: a "
            "str or a pathlib.Path"
        )
    return text


def local_path(path: str | os.PathLike[str]) -> str:
    """Return the absolute path of a run folder.

    Raises
    ------
    OptionError
        It is no path.
    RunError
        It is a URL of something that is not a file system, empty, or has ``::``.
    """
    text = path_text(path)
    if text.startswith("file://"):
        text = urllib.parse.unquote(urllib.parse.urlsplit(text).path)
    if "://" in text:
        raise RunError(
            f"{text} cannot be a run folder: a step is committed by creating a file only if it is "
            "absent, and object stores are not trusted with that. Give a path on a local or "
            "shared file system, and copy the finished folder there"
        )
    if not text:
        raise RunError("the path of the run folder is empty; give out= (--out) a folder's name")
    found = os.path.abspath(os.path.expanduser(text))
    if "::" in found:
        raise RunError(
            f"{found} cannot be a run folder: Zarr takes a path with :: for a chain of URLs. Give "
            "a path without"
        )
    return found


def resume_command(path: str) -> str:
    """Return what one types to go on with a run."""
    return f"dnmf resume {shlex.quote(path)}"


def read_plan(path: str) -> dict[str, Any]:
    """Read the plan of the run in the folder ``path``.

    Raises
    ------
    RunError
        There is no run, it is damaged, or of another format.
    """
    file_path = os.path.join(path, PLAN)
    try:
        with storage("read", file_path, may_pass=False), open_fresh(file_path) as file:
            data = file.read()
    except RunError as error:
        if isinstance(error.__cause__, (FileNotFoundError, NotADirectoryError)):
            if os.path.isdir(os.path.join(path, STATE)):
                raise RunError(
                    f"{path} {_CUT_OFF}. Start it again with overwrite=True (--overwrite)"
                ) from None
            raise RunError(
                f"{path} is not a run of dnmf: it has no {PLAN}. Give the folder that out= "
                "(--out) named"
            ) from None
        raise
    found = _format(data)
    if found != FORMAT:
        raise RunError(
            f"{path} is a run of format {found}, this version of dnmf has format {FORMAT}; use "
            "the version that began it, or fit again with --overwrite"
        )
    try:
        plan: dict[str, Any] = decode(data)["plan"]
    except (ValueError, KeyError) as error:
        raise RunError(f"{file_path} is damaged: {error}. Fit again with --overwrite") from None
    return plan


def _format(data: bytes) -> Any:
    """Read the format that a plan says it has, without trusting the rest; FORMAT where damaged."""
    try:
        return json.loads(data)["content"]["format"]
    except (ValueError, KeyError, TypeError):
        return FORMAT


def read_records(path: str) -> list[int]:
    """List the indices of the record files, valid or not, ascending."""
    folder = os.path.join(path, RECORDS)
    with storage("list", folder, may_pass=False):
        names = [name.removesuffix(".json") for name in os.listdir(folder)]
    return sorted(int(name) for name in names if name.isdecimal())


def published_attributes(path: str, group: str = "") -> dict[str, Any] | None:
    """Read the ``dnmf`` attributes of a finished result (of one group of it), or None."""
    file_path = os.path.join(path, group, "zarr.json")
    try:
        if not os.path.isfile(file_path):
            return None
        with storage("read", file_path, may_pass=False), open(file_path, "rb") as file:
            found = json.load(file)["attributes"]["dnmf"]
    except (ValueError, KeyError, TypeError):
        return None
    return found if isinstance(found, dict) else None


_CUT_OFF = "holds a run that was cut off before it began"


@dataclass(frozen=True)
class Existing:
    """Says what is at a path.

    Attributes
    ----------
    kind : str
        ``"absent"``, ``"file"``, ``"empty"``, ``"result"``, ``"run"``, ``"stub"`` for a run
        without a plan, or ``"folder"`` for one that dnmf did not make.
    text : str
        For people: a clause whose subject is the path.
    """

    kind: str
    text: str

    @property
    def replaceable(self) -> bool:
        """Whether ``overwrite`` may replace it."""
        return self.kind in ("absent", "empty", "result", "run", "stub")

    @property
    def unbegun(self) -> bool:
        """Whether there is no run to go on with yet, and nothing that a new one would cost."""
        return self.kind in ("absent", "empty", "stub")


def examine(path: str) -> Existing:
    """Look at what is at ``path``, without changing it."""
    if not os.path.lexists(path):
        return Existing("absent", "does not exist")
    if not os.path.isdir(path):
        return Existing("file", "is a file")
    with storage("list", path, may_pass=False):
        names = sorted(os.listdir(path))
    if not names:
        return Existing("empty", "is an empty folder")
    if published_attributes(path) is not None:
        return Existing("result", "holds a finished result")
    if os.path.isfile(os.path.join(path, PLAN)):
        return Existing("run", _progress(path))
    if os.path.isdir(os.path.join(path, STATE)):
        return Existing("stub", _CUT_OFF)
    shown = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
    return Existing("folder", f"is a folder that dnmf did not make (it holds {shown})")


def _progress(path: str) -> str:
    try:
        indices = read_records(path)
    except RunError:
        indices = []
    for index in reversed(indices):
        try:
            with open(os.path.join(path, RECORDS, f"{index}.json"), "rb") as file:
                history = decode(file.read())["history"]
            passes = max((int(row["pass"]) for row in history), default=0)
        except (OSError, ValueError, KeyError, TypeError):
            continue
        what = f"pass {passes} is committed" if passes else "the scan is committed"
        return f"holds a run in progress ({what})"
    return "holds a run in progress (nothing is committed)"


def foreign_entries(path: str) -> list[str]:
    """List what dnmf did not put into a run folder: all but Zarr nodes and its state."""
    known = {STATE, "zarr.json", "W", "H", "models"}
    return [
        entry.name
        for entry in os.scandir(path)
        if entry.name not in known
        and not entry.name.startswith(TEMPORARY)
        and not os.path.isfile(os.path.join(entry.path, "zarr.json"))
    ]
