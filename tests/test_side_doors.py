"""Protocols have no side doors: nobody asks an object for its name, class or further attributes.

Each `Room` says what a protocol's objects are called in the library and which names only its own
folders may know; a room for another protocol is one more line in `ROOMS`.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from dnmf.executors import EXECUTORS
from dnmf.losses import LOSSES, loss_names
from dnmf.runs import STORES
from dnmf.sources import MADE, SOURCES

DNMF = Path(__file__).parents[1] / "dnmf"
ASKED = ("isinstance", "issubclass", "type", "getattr", "hasattr", "vars")
"""What asks an object for more than its protocol has."""


@dataclass(frozen=True)
class Room:
    """A protocol, and the folders in which its classes live.

    Attributes
    ----------
    folders : tuple of str
        Of ``dnmf/``, which may do all of this; so may ``dnmf/testing``.
    objects : tuple of str
        Names of variables and attributes that hold objects of the protocol.
    classes : tuple of str
        Names of its classes.
    doors : tuple of str
        Those of `DOORS` that are closed.
    names : tuple of str
        Under which the registry knows them: strings that nobody compares with or looks up.
    open_modules : tuple of str
        Modules of the first folder that others may import from, besides the folder itself.
    allowed : tuple of (str, str)
        File, and what the code in question has in it, with the reason beside it.
    """

    folders: tuple[str, ...]
    objects: tuple[str, ...]
    classes: tuple[str, ...]
    doors: tuple[str, ...] = ("asks an object", "asks for a class")
    names: tuple[str, ...] = ()
    open_modules: tuple[str, ...] = ("base",)
    allowed: tuple[tuple[str, str], ...] = ()


def _classes(registry: Mapping[Any, str]) -> tuple[str, ...]:
    return tuple(sorted({where.partition(":")[2] for where in registry.values()}))


ROOMS = {
    "loss": Room(
        folders=("losses",),
        objects=("loss",),
        classes=_classes(LOSSES),
        doors=(
            "asks an object",
            "asks for a class",
            "knows a class",
            "imports from inside",
            "compares with a name",
            "has a name",
        ),
        names=tuple(loss_names()),
        open_modules=("base", "values", "compressed"),
        allowed=(
            ("config.py", "'frobenius'"),  # the default of `FitConfig`
            ("estimator/nmf.py", "'frobenius'"),  # the default of scikit-learn's signature
            ("estimator/parameters.py", "'frobenius'"),  # what scikit-learn's solver "cd" is for
        ),
    ),
    "executor": Room(
        folders=("executors", "steps"),
        objects=("executor", "_executor"),
        classes=(*_classes(EXECUTORS), "Executor"),
    ),
    "store": Room(
        folders=("runs",),
        objects=("store", "_store"),
        classes=(*_classes(STORES), "RunStore"),
        allowed=(  # stores of Zarr
            ("results/checked_chunks.py", "type(store)"),
            ("sources/store.py", "(store, LocalStore)"),
            ("sources/store.py", "(store, 'is_folder', False)"),
            ("sources/store.py", "type(store)"),
            ("sources/store.py", "type(self.store)"),
            ("sources/stored.py", "type(store)"),
        ),
    ),
    "source": Room(
        folders=("sources", "interop"),  # foreign objects become sources there
        objects=("source", "_source", "oriented"),
        classes=_classes({**SOURCES, **MADE}),
    ),
}

AMBIGUOUS = {"beta"}
"""Names that are words for something else too: only comparisons of ``loss`` with them count."""

VALUES = {"str", "bool", "int", "float", "Real", "os", "PathLike"}
"""Types of what a person gives as the name of a loss or the path of V, which must be checked."""


def _files(room: Room) -> Iterator[tuple[str, ast.Module]]:
    """The library outside the room, by path."""
    for path in sorted(DNMF.rglob("*.py")):
        name = path.relative_to(DNMF).as_posix()
        if name.partition("/")[0] not in (*room.folders, "testing"):
            yield name, ast.parse(path.read_text(encoding="utf-8"))


def _last_name(node: ast.expr) -> str:
    """``loss`` for ``loss``, ``model.loss`` and ``self.models[0].loss``."""
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""


def asks(room: Room, node: ast.AST) -> bool:
    """``isinstance(loss, ...)``, ``getattr(loss, ...)``, and so on; ``loss.name``, ``x.kind``."""
    if isinstance(node, ast.Attribute) and node.attr in ("name", "kind", "__class__"):
        value = node.value
        return _last_name(value) in room.objects and not _is_option(value)
    if not isinstance(node, ast.Call) or _last_name(node.func) not in ASKED or not node.args:
        return False
    given = {_last_name(one) for argument in node.args[1:] for one in ast.walk(argument)} - {""}
    if _last_name(node.func) == "isinstance" and given <= VALUES:
        return False
    return _last_name(node.args[0]) in room.objects and not _is_option(node.args[0])


def _is_option(node: ast.expr) -> bool:
    """``config.loss`` is the name that was asked for, not a loss."""
    return isinstance(node, ast.Attribute) and _last_name(node.value) == "config"


def asks_for_a_class(room: Room, node: ast.AST) -> bool:
    """``isinstance(x, Serial)``, ``type(x) is Serial``, whatever x is called."""
    if isinstance(node, ast.Call) and _last_name(node.func) in ("isinstance", "issubclass"):
        names = node.args[1:]
    elif isinstance(node, ast.Compare):
        sides = [node.left, *node.comparators]
        types = [
            one for one in sides if isinstance(one, ast.Call) and _last_name(one.func) == "type"
        ]
        names = sides if types else []
    else:
        return False
    known = {
        _last_name(one) for side in names for one in ast.walk(side) if isinstance(one, ast.expr)
    }
    return bool(known & set(room.classes))


def knows_a_class(room: Room, node: ast.AST) -> bool:
    return _last_name(node) in room.classes if isinstance(node, ast.expr) else False


def imports_from_inside(room: Room, node: ast.AST) -> bool:
    """From a module of the room that is not open."""
    folder = room.folders[0]
    inside = f"dnmf.{folder}."
    if isinstance(node, ast.ImportFrom):
        module = node.module or ""
        closed = [alias.name for alias in node.names if alias.name not in room.open_modules]
        here = {path.stem for path in (DNMF / folder).glob("*.py")}
        if module == inside[:-1]:
            return bool(here & set(closed))
        return module.startswith(inside) and module.removeprefix(inside) not in room.open_modules
    names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
    return any(name.startswith(inside) for name in names)


def compares_with_a_name(room: Room, node: ast.AST) -> bool:
    if not isinstance(node, ast.Compare):
        return False
    sides = [one for side in (node.left, *node.comparators) for one in ast.walk(side)]
    of_room = any(isinstance(one, ast.expr) and _last_name(one) in room.objects for one in sides)
    known = set(room.names) - (set() if of_room else AMBIGUOUS)
    return any(isinstance(one, ast.Constant) and one.value in known for one in sides)


def is_a_name(room: Room, node: ast.AST) -> bool:
    """A string that is the name and nothing else."""
    known = set(room.names) - AMBIGUOUS
    return isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value in known


DOORS: dict[str, Callable[[Room, ast.AST], bool]] = {
    "asks an object": asks,
    "asks for a class": asks_for_a_class,
    "knows a class": knows_a_class,
    "imports from inside": imports_from_inside,
    "compares with a name": compares_with_a_name,
    "has a name": is_a_name,
}


def found(room: Room, door: str, name: str, tree: ast.AST) -> list[str]:
    """Where a file uses this door, but for what is allowed."""
    allowed = {text for file, text in room.allowed if file == name}
    lines = []
    for node in ast.walk(tree):
        text = ast.unparse(node) if DOORS[door](room, node) else ""
        if text and not any(some in text for some in allowed):
            lines.append(f"{name}:{node.lineno} {text}")  # type: ignore[attr-defined]
    return lines


@pytest.mark.parametrize(
    ("name", "door"), [(name, door) for name in ROOMS for door in ROOMS[name].doors]
)
def test_nobody_outside_a_room_uses_a_side_door(name: str, door: str) -> None:
    room, looked_at = ROOMS[name], 0
    for file, tree in _files(room):
        looked_at += 1
        assert found(room, door, file, tree) == []
    assert looked_at > 100


@pytest.mark.parametrize("name", ROOMS)
def test_what_is_allowed_is_still_needed(name: str) -> None:
    room = ROOMS[name]
    trees, strict = dict(_files(room)), replace(room, allowed=())
    for file, text in room.allowed:
        lines = [line for door in room.doors for line in found(strict, door, file, trees[file])]
        assert any(text in line for line in lines), (file, text)


SEEN = [
    ("loss", "asks an object", "isinstance(model.loss, Frobenius)"),
    ("loss", "asks an object", "getattr(loss, 'patient', None)"),
    ("loss", "asks an object", "type(self.loss) is Frobenius"),
    ("loss", "asks an object", "model.loss.name == 'kullback-leibler'"),
    ("loss", "asks for a class", "isinstance(x, (int, losses.MaskedFrobenius))"),
    ("loss", "knows a class", "x = KullbackLeibler(penalties)"),
    ("loss", "imports from inside", "from dnmf.losses.frobenius import Frobenius"),
    ("loss", "imports from inside", "from dnmf.losses import masked"),
    ("loss", "imports from inside", "import dnmf.losses.beta"),
    ("loss", "compares with a name", "config.loss in ('frobenius', 'beta')"),
    ("loss", "compares with a name", "loss == 'beta'"),
    ("loss", "has a name", "passes = {'itakura-saito': 20}"),
    ("executor", "asks an object", "getattr(self.executor, 'client', None)"),
    ("executor", "asks an object", "hasattr(executor, 'resident')"),
    ("executor", "asks for a class", "isinstance(work, (Serial, int))"),
    ("executor", "asks for a class", "type(how) is not Cluster"),
    ("store", "asks an object", "isinstance(self.store, FolderStore)"),
    ("store", "asks an object", "getattr(context.store, 'path', None)"),
    ("store", "asks for a class", "issubclass(kind, MemoryStore)"),
    ("source", "asks an object", "context.source.kind == 'zarr'"),
    ("source", "asks an object", "isinstance(source, Iterable)"),
    ("source", "asks for a class", "isinstance(V, WeightedSource)"),
]


@pytest.mark.parametrize(("name", "door", "code"), SEEN)
def test_a_side_door_is_seen(name: str, door: str, code: str) -> None:
    assert found(ROOMS[name], door, "somewhere.py", ast.parse(code))
    innocent = f"config.{name}, {name}.unit, isinstance({name}, (str, os.PathLike)), Serial()"
    assert not found(ROOMS[name], door, "somewhere.py", ast.parse(innocent))


def test_every_door_is_tried() -> None:
    assert {(name, door) for name, room in ROOMS.items() for door in room.doors} == {
        (name, door) for name, door, _ in SEEN
    }
