"""Protocols have no side doors: nobody asks a loss for its name, class or further attributes.

Each `Room` says what a protocol's objects are called in the library and which names only its own
folder may know; a room for another protocol is one more line in `ROOMS`.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from dnmf.losses import LOSSES, loss_names

DNMF = Path(__file__).parents[1] / "dnmf"
ASKED = ("isinstance", "issubclass", "type", "getattr", "hasattr", "vars")
"""What asks an object for more than its protocol has."""


@dataclass(frozen=True)
class Room:
    """A protocol, and the folder in which its classes live.

    Attributes
    ----------
    folder : str
        Of ``dnmf/``, which may do all of this; so may ``dnmf/testing``.
    objects : tuple of str
        Names of variables and attributes that hold objects of the protocol.
    classes : tuple of str
        Names of its classes.
    names : tuple of str
        Under which the registry knows them: strings that nobody compares with or looks up.
    open_modules : tuple of str
        Modules of the folder that others may import from, besides the folder itself.
    allowed : tuple of (str, str)
        File and name where a name is a default, with the reason beside it.
    """

    folder: str
    objects: tuple[str, ...]
    classes: tuple[str, ...]
    names: tuple[str, ...] = ()
    open_modules: tuple[str, ...] = ("base",)
    allowed: tuple[tuple[str, str], ...] = ()


def _classes(registry: dict[tuple[str, str | None, bool], str]) -> tuple[str, ...]:
    return tuple(sorted({where.partition(":")[2] for where in registry.values()}))


ROOMS = {
    "loss": Room(
        folder="losses",
        objects=("loss",),
        classes=_classes(LOSSES),
        names=tuple(loss_names()),
        open_modules=("base", "values"),
        allowed=(
            ("config.py", "frobenius"),  # the default of `FitConfig`
            ("estimator/nmf.py", "frobenius"),  # the default of scikit-learn's signature
            ("estimator/parameters.py", "frobenius"),  # what scikit-learn's solver "cd" is for
        ),
    ),
}

AMBIGUOUS = {"beta"}
"""Names that are words for something else too: only comparisons of ``loss`` with them count."""

VALUES = {"str", "bool", "int", "float", "Real"}
"""Types of what a person gives as the name of a loss, which must be checked."""


def _files(room: Room) -> Iterator[tuple[str, ast.Module]]:
    """The library outside the room, by path."""
    for path in sorted(DNMF.rglob("*.py")):
        name = path.relative_to(DNMF).as_posix()
        if not name.startswith((f"{room.folder}/", "testing/")):
            yield name, ast.parse(path.read_text(encoding="utf-8"))


def _last_name(node: ast.expr) -> str:
    """``loss`` for ``loss``, ``model.loss`` and ``self.models[0].loss``."""
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""


def asks(room: Room, node: ast.AST) -> bool:
    """``isinstance(loss, ...)``, ``getattr(loss, ...)``, and so on; ``loss.name``."""
    if isinstance(node, ast.Attribute) and node.attr in ("name", "__class__"):
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


def knows_a_class(room: Room, node: ast.AST) -> bool:
    return _last_name(node) in room.classes if isinstance(node, ast.expr) else False


def imports_from_inside(room: Room, node: ast.AST) -> bool:
    """From a module of the room that is not open."""
    inside = f"dnmf.{room.folder}."
    if isinstance(node, ast.ImportFrom):
        module = node.module or ""
        closed = [alias.name for alias in node.names if alias.name not in room.open_modules]
        here = {path.stem for path in (DNMF / room.folder).glob("*.py")}
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
    "knows a class": knows_a_class,
    "imports from inside": imports_from_inside,
    "compares with a name": compares_with_a_name,
    "has a name": is_a_name,
}


def found(room: Room, door: str, name: str, tree: ast.AST) -> list[str]:
    """Where a file uses this door, but for what is allowed."""
    allowed = {value for file, value in room.allowed if file == name}
    lines = []
    for node in ast.walk(tree):
        text = ast.unparse(node) if DOORS[door](room, node) else ""
        if text and not any(repr(value) in text for value in allowed):
            lines.append(f"{name}:{node.lineno} {text}")  # type: ignore[attr-defined]
    return lines


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("name", ROOMS)
def test_nobody_outside_a_room_uses_a_side_door(name: str, door: str) -> None:
    room = ROOMS[name]
    assert [line for file, tree in _files(room) for line in found(room, door, file, tree)] == []


@pytest.mark.parametrize("name", ROOMS)
def test_what_is_allowed_is_still_needed(name: str) -> None:
    trees = dict(_files(ROOMS[name]))
    for file, value in ROOMS[name].allowed:
        constants = [n.value for n in ast.walk(trees[file]) if isinstance(n, ast.Constant)]
        assert value in constants, (file, value)


@pytest.mark.parametrize(
    ("door", "code"),
    [
        ("asks an object", "isinstance(model.loss, Frobenius)"),
        ("asks an object", "getattr(loss, 'patient', None)"),
        ("asks an object", "type(self.loss) is Frobenius"),
        ("asks an object", "model.loss.name == 'kullback-leibler'"),
        ("knows a class", "x = KullbackLeibler(penalties)"),
        ("imports from inside", "from dnmf.losses.frobenius import Frobenius"),
        ("imports from inside", "from dnmf.losses import masked"),
        ("imports from inside", "import dnmf.losses.beta"),
        ("compares with a name", "config.loss in ('frobenius', 'beta')"),
        ("compares with a name", "loss == 'beta'"),
        ("has a name", "passes = {'itakura-saito': 20}"),
    ],
)
def test_a_side_door_is_seen(door: str, code: str) -> None:
    assert found(ROOMS["loss"], door, "somewhere.py", ast.parse(code))
    assert not found(ROOMS["loss"], door, "somewhere.py", ast.parse("config.loss, loss.unit"))
