"""The command group: one line per command here, one file per command beside it.

Commands are imported when they run, and heavy packages when a command needs them, so that
``dnmf --help`` starts as fast as Python does.
"""

from __future__ import annotations

import errno
import sys
import traceback
from contextlib import suppress
from importlib import import_module
from typing import Any

import click

from dnmf import __version__
from dnmf.errors import DnmfError

__all__ = ["cli", "main"]

COMMANDS = {
    "fit": "Factorize a matrix.",
    "plan": "Show how a fit would run and the memory it needs.",
    "resume": "Go on with a fit or study that was interrupted.",
    "inspect": "Show a result, or how far a running fit is.",
    "transform": "Compute W of new rows with the H of a fit.",
    "convert": "Convert a matrix to Zarr, or rechunk it.",
    "study": "Find how many components a matrix supports.",
    "report": "Draw a result or a study as an HTML page.",
    "demo": "Try it on Python's docstrings, or on a large generated matrix.",
}
"""Name (also of the module in this folder) and what ``dnmf --help`` says about it."""

MODULES = {"report": "report_page"}
"""Modules of another name."""

INTERRUPTED = 130
"""Exit code of a command that Ctrl-C ended and that left nothing to go on with."""


class LazyGroup(click.Group):
    """A group that imports a command when it is used, and turns errors into exit codes."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        module = MODULES.get(name, name)
        command: click.Command = import_module(f"dnmf.cli.{module}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            names = ", ".join(COMMANDS)
            raise click.UsageError(f"no command {args[0]!r}; there are: {names}", ctx)
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        ctx.obj = {"debug": ctx.params.get("debug", False)}
        try:
            return super().invoke(ctx)
        except DnmfError as error:
            if ctx.obj["debug"]:
                traceback.print_exc(file=sys.stderr)
            click.echo(f"error: {error}", err=True)
            ctx.exit(error.exit_code)
        except KeyboardInterrupt:
            click.echo("interrupted", err=True)
            ctx.exit(INTERRUPTED)


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Example:  dnmf fit counts.zarr -k 20 --out topics.zarr",
)
@click.version_option(__version__, prog_name="dnmf")
@click.option("--debug", is_flag=True, help="Show the traceback of an error, too.")
def cli(debug: bool) -> None:
    """Non-negative matrix factorization for matrices that do not fit in memory.

    V (n x d) is approximated by W (n x k) times H (k x d), all entries 0 or more. V stays on
    storage and is read in parallel, by this machine or by a Dask cluster.

    Exit codes: 0 done; 2 wrong use or input; 3 interrupted, go on with dnmf resume; 130
    interrupted with nothing to go on with; 120 standard output could not be written; 1 anything
    else.
    """


def main() -> None:
    """Run the ``dnmf`` program."""
    from dnmf import blas_env
    from dnmf.quick_exit import NOT_FLUSHED, QuickExit

    ending = QuickExit()
    blas_env.prepare()  # before anything imports NumPy
    try:
        cli(prog_name="dnmf")
    except SystemExit as end:  # how click ends
        ending.code = end.code if isinstance(end.code, int) else None
        raise
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EIO) or error.filename is not None:
            raise
        with suppress(OSError):
            sys.stderr.write(f"error: the output could not be written: {error.strerror}\n")
        ending.code = NOT_FLUSHED
