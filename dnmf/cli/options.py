"""Types of options, and the groups of options that several commands share."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import fields
from typing import Any, TypeVar

import click

from dnmf.cli.cluster import ClusterOptions
from dnmf.config import MIB, OPTIONS
from dnmf.errors import OptionError
from dnmf.values import Bytes, Choice, Flag, Kind, Number, Seconds, Whole, parse_bytes

__all__ = [
    "DURATION",
    "SIZE",
    "Size",
    "cluster_options",
    "debug_option",
    "k_option",
    "local_options",
    "option",
    "options",
    "overwrite",
    "seed_option",
]

F = TypeVar("F", bound=Callable[..., Any])


class Size(click.ParamType):
    """Bytes, of ``least`` or more: 600MB, 2GiB, 1000000."""

    name = "size"

    def __init__(self, least: int = 1) -> None:
        self._least = least

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        try:
            return parse_bytes(value, least=self._least)
        except OptionError as error:
            self.fail(str(error), param, ctx)


class _Duration(click.ParamType):
    """Seconds: 90, 90s, 15min, 2h."""

    name = "time"
    units = {"": 1.0, "s": 1.0, "min": 60.0, "h": 3600.0}  # noqa: RUF012

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        text = str(value).strip().lower()
        digits = text.rstrip("abcdefghijklmnopqrstuvwxyz ")
        try:
            seconds = float(digits) * self.units[text[len(digits) :].strip()]
        except (ValueError, KeyError):
            self.fail(f"{value!r} is no time; give seconds, or as in 15min or 2h", param, ctx)
        if not 0 < seconds < float("inf"):
            self.fail(f"{value!r} is no time; it must be more than 0", param, ctx)
        return seconds


class _NumberOr(click.ParamType):
    """A number, or one word."""

    name = "number"

    def __init__(self, word: str) -> None:
        self.word = word

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> str | float:
        if value == self.word:
            return self.word
        try:
            return float(value)
        except ValueError:
            self.fail(f"{value!r} is neither a number nor {self.word!r}")


SIZE = Size()
DURATION = _Duration()


def option(name: str, text: str | None = None, default: str | None = None) -> Callable[[F], F]:
    """Declare an option of a fit as `dnmf.config.OPTIONS` has it.

    Parameters
    ----------
    name : str
        Its name in Python.
    text : str, optional
        Help of this command, instead of the table's.
    default : str, optional
        Default of this command, instead of the table's.
    """
    field = OPTIONS[name]
    kind = field.metadata["kind"]
    words = (text or field.metadata["help"]).removesuffix(".")
    shown = _default_text(field.default, kind) if default is None else default
    names = (f"--{name.replace('_', '-')}", name)
    if isinstance(kind, Flag):
        return click.option(*names, is_flag=True, help=f"{words}.")
    type_, metavar = _type_of(kind)
    return click.option(
        *names,
        type=type_,
        metavar=metavar,
        help=f"{words} [default: {shown}]." if shown else f"{words}.",
    )


def options(*names: str) -> Callable[[F], F]:
    """Declare several options of a fit, in this order."""

    def decorate(function: F) -> F:
        for name in reversed(names):
            function = option(name)(function)
        return function

    return decorate


def _type_of(kind: Kind) -> tuple[click.ParamType, str | None]:
    """Return the type that click reads an option as, and what its help calls the value."""
    if isinstance(kind, Bytes):
        return Size(kind.least), None
    if isinstance(kind, Whole):
        return click.IntRange(min=kind.least), "N"
    if isinstance(kind, Choice):
        return click.Choice([name for name in kind.names if name is not None]), None
    if isinstance(kind, Number):
        high = None if kind.high == float("inf") else kind.high
        number = click.FloatRange(kind.low, high) if kind.word is None else _NumberOr(kind.word)
        return number, "NUMBER"
    assert isinstance(kind, Seconds)
    return DURATION, None


def _default_text(default: Any, kind: Kind) -> str:
    if isinstance(kind, Bytes):
        whole, unit = (default >> 30, "GiB") if default >= 1 << 30 else (default // MIB, "MiB")
        return f"{whole}{unit}"
    return "" if default is None else f"{default:g}" if isinstance(default, float) else str(default)


overwrite = click.option("--overwrite", is_flag=True, help="Replace the output if it exists.")


def _set_debug(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    if value:
        ctx.ensure_object(dict)["debug"] = True


debug_option = click.option(
    "--debug",
    is_flag=True,
    hidden=True,  # shown by `dnmf --help`; accepted after the command too
    expose_value=False,
    is_eager=True,
    callback=_set_debug,
)


def seed_option(text: str) -> Callable[[F], F]:
    """Declare ``--seed`` with this help."""
    return click.option(
        "--seed",
        type=click.IntRange(min=0),
        metavar="N",
        default=0,
        show_default=True,
        help=text,
    )


k_option = click.option(
    "-k", type=click.IntRange(min=1), metavar="N", required=True, help="Number of components."
)


_LOCAL = (
    click.option(
        "--memory",
        type=SIZE,
        help="Memory limit of each worker: 600MB, 2GiB [default: its share of the machine's].",
    ),
    click.option(
        "--threads",
        type=click.IntRange(min=1),
        metavar="N",
        help="Threads of each worker [default: by the machine; 1 with --workers 0].",
    ),
    click.option(
        "--workers",
        type=click.IntRange(min=0),
        metavar="N",
        help="Worker processes of a Dask cluster that is started on this machine; 0: no cluster, "
        "this process does all the work [default: by the machine].",
    ),
)
_RUNNING = (
    click.option(
        "--scheduler-file",
        metavar="PATH",
        help="Use the running Dask cluster whose scheduler wrote this file.",
    ),
    click.option(
        "--scheduler",
        metavar="ADDRESS",
        help="Use the running Dask cluster with this scheduler: tcp://host:8786.",
    ),
)
_NAMES = tuple(field.name for field in fields(ClusterOptions))


def local_options(function: F) -> Callable[..., Any]:
    """Declare ``--workers``, ``--threads`` and ``--memory``: a local cluster, or none.

    The command receives them as one argument ``cluster``, checked for contradictions.
    """

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        cluster = ClusterOptions(**{name: kwargs.pop(name, None) for name in _NAMES})
        cluster.check()
        return function(*args, cluster=cluster, **kwargs)

    command: Callable[..., Any] = wrapper
    for option in _LOCAL:
        command = option(command)
    return command


def cluster_options(function: F) -> Callable[..., Any]:
    """Declare `local_options`, and ``--scheduler`` and ``--scheduler-file``: a running cluster."""
    for option in _RUNNING:
        function = option(function)
    return local_options(function)
