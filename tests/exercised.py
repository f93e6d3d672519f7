"""What the tests exercise: written down in one tree, compared with that of another.

After a change that moves code and tests about, nothing must have been lost unseen::

    python tests/exercised.py record BEFORE.json -- -n 2     # runs pytest of the current folder
    python tests/exercised.py record AFTER.json -- -n 2      # the same in the changed tree
    python tests/exercised.py compare BEFORE.json AFTER.json  # exit 1 where something is missing

Written down are

- ``struck``: each point and action of a planned fault that struck, and ``reached``: each fault
  point that was reached while ``DNMF_FAULTS`` was on;
- ``refusals``: each error of the package that it made, as its class and the template of its
  message (see `_templates`), so that it does not matter where the code stands;
- ``given``: hypothesis tests that passed, and ``contracts``: tests of the contract classes that
  passed, with the kind and the parameters. Of one name, the number of tests counts;
- ``files``: passed tests by file, for the reader only.

All processes are watched that inherit ``PYTHONPATH``. Each runs a copy of this file when it
starts, by ``sitecustomize``; therefore imports stand in the functions, and those of a run are few.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from types import ModuleType
    from typing import Any

FOLDER = "EXERCISED_FOLDER"
"""Environment variable: where processes write what they did."""
TESTING = "dnmf.testing"
FEWEST_LETTERS = 12
"""A template with fewer, such as ``{}: {}``, says nothing about which message it is."""
MOST_MESSAGES = 200
"""Kept for each template."""
KINDS = {
    "struck": "faults that struck",
    "reached": "fault points reached",
    "refusals": "refusals",
    "given": "hypothesis tests",
    "contracts": "contract tests",
}

_told: set[tuple[str, ...]] = set()


def _tell(kind: str, *values: str) -> None:
    """Write it down, once in a process; never fail, and never leave a file open."""
    if (kind, *values) in _told:
        return
    try:
        import json

        _told.add((kind, *values))
        path = os.path.join(os.environ[FOLDER], f"{os.getpid()}.jsonl")
        file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(file, json.dumps([kind, *values]).encode() + b"\n")
        finally:
            os.close(file)
    except Exception:  # a full disk, or a limit that a test has set
        pass


def _watch_errors(module: ModuleType) -> None:
    base = module.DnmfError

    def init(self: Any, *args: Any, **options: Any) -> None:
        super(base, self).__init__(*args, **options)
        frame = sys._getframe(1)  # else it comes from another process, or a test makes one
        name = frame.f_globals.get("__name__", "")
        if name.startswith("dnmf.") and not name.startswith(TESTING):
            place = f"{name}:{frame.f_code.co_qualname}"
            _tell("refusals", type(self).__name__, str(args[0]) if args else "", place)

    base.__init__ = init


def _watch_faults(module: ModuleType) -> None:
    reach = module.reach

    def watched(point: str, **details: Any) -> None:
        if os.environ.get("DNMF_FAULTS"):
            _tell("reached", point)
        reach(point, **details)

    for name in ("__module__", "__name__", "__qualname__", "__doc__"):
        setattr(watched, name, getattr(reach, name))
    module.reach = watched  # type: ignore[attr-defined]
    for name, act in list(module.ACTIONS.items()):
        module.ACTIONS[name] = _striking(name, act)


def _striking(name: str, act: Callable[..., None]) -> Callable[..., None]:
    def strike(folder: str, fault: Mapping[str, Any], details: Mapping[str, Any]) -> None:
        _tell("struck", fault["point"], name)  # before: it may be the end of this process
        act(folder, fault, details)

    return strike


WATCHED = {"dnmf.errors": _watch_errors, "dnmf.faultpoints": _watch_faults}


class _Finder:
    """Finds the watched modules as the others do, and changes them once they have run."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        if name not in WATCHED:
            return None
        for finder in sys.meta_path:
            found = None if finder is self else finder.find_spec(name, path, target)
            if found is not None and found.loader is not None:
                _after(found.loader, WATCHED[name])
                return found
        return None


def _after(loader: Any, watch: Callable[[ModuleType], None]) -> None:
    run = loader.exec_module

    def exec_module(module: ModuleType) -> None:
        run(module)
        watch(module)

    loader.exec_module = exec_module


def install() -> None:
    """Watch this process."""
    if os.environ.get(FOLDER):
        sys.meta_path.insert(0, _Finder())


def pytest_runtest_makereport(item: Any, call: Any) -> None:
    """Write down a test that passed."""
    if call.when != "call" or call.excinfo is not None:
        return
    where = item.nodeid.split("[")[0]
    name = getattr(item, "originalname", None) or item.name
    params = item.name.removeprefix(name)
    _tell("files", item.nodeid)
    if getattr(item.obj, "is_hypothesis_test", False):
        _tell("given", name + params, where)
    classes = getattr(getattr(item, "cls", None), "__mro__", ())
    contracts = [c for c in classes if c.__module__.startswith(TESTING) and name in vars(c)]
    if contracts:
        kind = getattr(item.cls, "kind", "")
        _tell("contracts", f"{contracts[-1].__qualname__}.{name}[{kind}]{params}", where)


def record(out: str, arguments: Sequence[str]) -> int:
    """Run pytest of the current folder and write down what it exercised.

    Parameters
    ----------
    out : str
        The file to write.
    arguments : sequence of str
        For pytest.

    Returns
    -------
    int
        The exit code of pytest.
    """
    import json
    import shutil
    import subprocess
    import tempfile
    from pathlib import Path

    target, tree = Path(out).resolve(), Path.cwd()
    templates = _templates(tree / "dnmf")  # first, as files may change meanwhile
    with tempfile.TemporaryDirectory(prefix="exercised-") as name:
        code, lines = Path(name, "code"), Path(name, "lines")
        code.mkdir()
        lines.mkdir()
        shutil.copy(__file__, code / "exercised_hook.py")
        (code / "sitecustomize.py").write_text("import exercised_hook\nexercised_hook.install()\n")
        plugin = "from exercised_hook import pytest_runtest_makereport"
        (code / "exercised_plugin.py").write_text(plugin)
        paths = [str(code), str(tree), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
        environment = {
            **os.environ,
            FOLDER: str(lines),
            "PYTHONPATH": os.pathsep.join(path for path in paths if path),
        }
        command = [sys.executable, "-m", "pytest", "-p", "exercised_plugin", *arguments]
        done = subprocess.run(command, env=environment, check=False)
        told = {tuple(line) for path in lines.iterdir() for line in _lines(path)}
    found = {**_summary(told, templates), "pytest": done.returncode}
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    _say(f"{out}: " + ", ".join(f"{len(found[kind])} {KINDS[kind]}" for kind in KINDS))
    return done.returncode


def _lines(path: Any) -> Iterator[list[str]]:
    import json

    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            yield json.loads(line)
        except ValueError:  # cut off by a limit of a test
            continue


def _summary(told: Iterable[tuple[str, ...]], templates: list[list[str]]) -> dict[str, Any]:
    found: dict[str, Any] = {**{kind: {} for kind in KINDS}, "files": {}}
    for kind, *values in sorted(told):
        here = found[kind]
        if kind == "refusals":
            error, message, place = values
            key = f"{error}: {_template(message, templates)}"
            entry = here.setdefault(key, {"places": [], "messages": {}})
            if place not in entry["places"]:
                entry["places"].append(place)
            if len(entry["messages"]) < MOST_MESSAGES:
                entry["messages"].setdefault(_normalised(message), message)
        elif kind == "files":
            name = values[0].split("::")[0]
            here[name] = here.get(name, 0) + 1
        elif kind in ("given", "contracts"):
            here[values[0]] = here.get(values[0], 0) + 1
        else:
            here[" ".join(values)] = 1
    for entry in found["refusals"].values():
        entry["messages"] = sorted(entry["messages"].values())
    return found


def _templates(package: Any) -> list[list[str]]:
    """All texts of a package that can be a whole message: their constant parts, in order.

    They are string constants, f-strings and sums of them; between two parts stands anything.
    """
    import ast

    found = set()
    for path in package.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            text = _text(node)
            if _letters(text) >= FEWEST_LETTERS:
                found.add(text)
    return [text.split("{}") for text in sorted(found, key=lambda t: (-_letters(t), t))]


def _text(node: Any) -> str:
    """The text of an expression, with ``{}`` for what is not constant."""
    import ast
    import re

    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        text = node.value
    elif isinstance(node, ast.JoinedStr):
        text = "".join(_text(value) for value in node.values)
    elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        text = _text(node.left) + _text(node.right)
    else:
        text = "{}"
    return re.sub(r"(\{\})+", "{}", text)


def _letters(text: str) -> int:
    return sum(letter.isalpha() for letter in text)


def _template(message: str, templates: list[list[str]]) -> str:
    """The template with the most letters that the whole message fits, else its general form."""
    for parts in templates:
        if _fits(message, parts):
            return "{}".join(parts)
    return _normalised(message)


def _fits(message: str, parts: Sequence[str]) -> bool:
    """Whether a message consists of these parts in order, with anything between them."""
    if len(parts) == 1:
        return message == parts[0]
    first, *middle, last = parts
    if not (message.startswith(first) and message.endswith(last)):
        return False
    at, end = len(first), len(message) - len(last)
    for part in middle:
        at = message.find(part, at, end)
        if at < 0:
            return False
        at += len(part)
    return at <= end


def _normalised(message: str) -> str:
    """A message with ``{}`` for what differs from one time to another."""
    import re

    quoted = r"'[^'\n]*'|\"[^\"\n]*\"|`[^`\n]*`"
    listed = r"\[[^\]\n]*\]|\((?:[\d.,\s-]+)\)"
    path = r"(?<![\w.])[\w+.-]*:?/[^\s,;:()]+"
    number = r"[-+]?\b\d[\d.,]*(?:e[-+]?\d+)?|\b(?:nan|inf)\b"
    return re.sub(rf"(?:{quoted}|{listed}|{path}|{number})", "{}", message)


def compare(before: str, after: str) -> int:
    """Say what was exercised before and is not after.

    A refusal is there if one of the same class has the same template, or a message that fits it:
    so it may be put together elsewhere, or in another way, but must say the same.

    Parameters
    ----------
    before, after : str
        Files that `record` wrote.

    Returns
    -------
    int
        1 where something is missing, else 0.
    """
    import json
    from pathlib import Path

    old, new = (json.loads(Path(path).read_text(encoding="utf-8")) for path in (before, after))
    total = 0
    for kind, name in KINDS.items():
        if kind == "refusals":
            missing = _missing_refusals(old[kind], new[kind])
        else:
            missing = [
                f"{key} ({new[kind].get(key, 0)} of {count})" if count > 1 else key
                for key, count in sorted(old[kind].items())
                if new[kind].get(key, 0) < count
            ]
        total += len(missing)
        more = len(new[kind].keys() - old[kind].keys())
        counts = f"{len(old[kind])} before, {len(new[kind])} after, {more} of them new"
        _say(f"{name}: {len(missing)} missing ({counts})")
        for line in missing:
            _say(f"  {line}")
    again = _wordings(new["refusals"])
    lost = sorted(_wordings(old["refusals"]) - again)
    _say(f"wordings of refusals: {len(lost)} not seen again (for information: some are drawn)")
    for line in lost:
        _say(f"  {line}")
    sums = [sum(found["files"].values()) for found in (old, new)]
    _say(f"tests passed: {sums[0]} before, {sums[1]} after (for information)")
    return 1 if total else 0


def _missing_refusals(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    from difflib import get_close_matches

    messages: dict[str, list[str]] = {}
    for key, entry in new.items():
        messages.setdefault(key.split(": ", 1)[0], []).extend(entry["messages"])
    missing = []
    for key, entry in sorted(old.items()):
        error, template = key.split(": ", 1)
        telling = _letters(template) >= FEWEST_LETTERS
        parts = template.split("{}")
        if key in new or (telling and any(_fits(m, parts) for m in messages.get(error, ()))):
            continue
        missing.append(f"{key!r}\n    was raised in {', '.join(entry['places'])}")
        for close in get_close_matches(key, new.keys() - old.keys(), 1, 0.7):
            missing[-1] += f"\n    now perhaps {close!r}"
    return missing


def _wordings(refusals: Mapping[str, Any]) -> set[str]:
    """The messages in their general form: of one template, which option it was about."""
    messages = [(key.split(": ")[0], m) for key in refusals for m in refusals[key]["messages"]]
    return {f"{error}: {_normalised(message)}" for error, message in messages}


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")


def main(arguments: Sequence[str]) -> int:
    """The command: see the top of this file."""
    if len(arguments) >= 2 and arguments[0] == "record" and (*arguments, "--")[2] == "--":
        return record(arguments[1], arguments[3:])
    if len(arguments) == 3 and arguments[0] == "compare":
        return compare(arguments[1], arguments[2])
    sys.stderr.write(
        "usage: exercised.py record OUT.json [-- pytest arguments]\n"
        "       exercised.py compare BEFORE.json AFTER.json\n"
    )
    return 2


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
