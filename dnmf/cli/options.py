"""Types of options, and the groups of options that several commands share."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import fields
from typing import Any, TypeVar

import click

from dnmf.cli.cluster import ClusterOptions
from dnmf.errors import OptionError
from dnmf.values import parse_bytes

__all__ = [
    "DURATION",
    "SIZE",
    "Size",
    "cluster_options",
    "debug_option",
    "layout_options",
    "local_options",
    "max_passes_option",
    "overwrite",
    "seed_option",
    "type_options",
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


SIZE = Size()
DURATION = _Duration()

overwrite = click.option("--overwrite", is_flag=True, help="Replace an output that exists.")


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
    """``--seed``; ``text`` says of what."""
    return click.option(
        "--seed",
        type=click.IntRange(min=0),
        metavar="N",
        default=0,
        show_default=True,
        help=text,
    )


def max_passes_option(text: str) -> Callable[[F], F]:
    """``--max-passes``; ``text`` says of what."""
    return click.option(
        "--max-passes",
        type=click.IntRange(min=1),
        metavar="N",
        help=f"{text} [default: 200].",
    )


def layout_options(function: F) -> F:
    """``-k``, ``--dtype``, ``--block-size``: what decides the plan besides the data."""
    function = click.option(
        "-k", type=click.IntRange(min=1), metavar="N", required=True, help="Number of components."
    )(type_options(function))
    return function


def type_options(function: F) -> F:
    """``--dtype``, ``--block-size``."""
    for option in (
        click.option(
            "--block-size", type=SIZE, help="Bytes of a decoded block of rows [default: 32MiB]."
        ),
        click.option(
            "--dtype",
            type=click.Choice(["float32", "float64"]),
            help="Type to compute in [default: by the data].",
        ),
    ):
        function = option(function)
    return function


_LOCAL = (
    click.option(
        "--memory", type=SIZE, help="Per worker: 600MB, 2GiB [default: the machine's share]."
    ),
    click.option(
        "--threads",
        type=click.IntRange(min=1),
        metavar="N",
        help="Per worker [default: by the machine; 1 with --workers 0].",
    ),
    click.option(
        "--workers",
        type=click.IntRange(min=0),
        metavar="N",
        help="Processes of a local cluster; 0: this process works alone [default: by the machine].",
    ),
)
_RUNNING = (
    click.option(
        "--scheduler-file", metavar="PATH", help="Use the cluster whose scheduler wrote this file."
    ),
    click.option(
        "--scheduler", metavar="ADDRESS", help="Use a cluster that runs: tcp://host:8786."
    ),
)
_NAMES = tuple(field.name for field in fields(ClusterOptions))


def local_options(function: F) -> Callable[..., Any]:
    """``--workers``, ``--threads``, ``--memory``: a local cluster, or none.

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
    """``local_options``, and ``--scheduler`` or ``--scheduler-file`` for a cluster that runs."""
    for option in _RUNNING:
        function = option(function)
    return local_options(function)
