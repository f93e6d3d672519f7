"""``dnmf report``: a page that shows a result or a study."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import click

from dnmf.cli.options import debug_option, overwrite

__all__ = ["command"]

EPILOG = """\b
Examples:
  dnmf report topics.zarr -o report.html --names words.txt
  dnmf report faces.zarr -o report.html --shape 112x92
  dnmf report study.zarr -o report.html"""


class _Shape(click.ParamType):
    """Rows and columns of pixels: 112x92."""

    name = "shape"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, int]:
        found = re.fullmatch(r"(\d+)[x,](\d+)", str(value).strip().lower())
        if not found or not (int(found[1]) and int(found[2])):
            self.fail(f"{value!r} is no shape; give rows x columns of pixels, as in 112x92")
        return int(found[1]), int(found[2])


@click.command(epilog=EPILOG)
@click.argument("run", metavar="RUN")
@click.option("-o", "--out", required=True, metavar="FILE", help="File to write: report.html.")
@click.option(
    "--shape",
    type=_Shape(),
    metavar="ROWSxCOLUMNS",
    help="Shape of the images that rows of V are: 112x92; rows of H are drawn as such.",
)
@click.option(
    "--names",
    type=click.Path(exists=True, dir_okay=False),
    metavar="FILE",
    help="Text file with the names of the columns of V, one per line [default: those of V].",
)
@click.option(
    "-k",
    type=click.IntRange(min=1),
    metavar="N",
    help="Which k of a study is drawn in detail [default: the recommended one].",
)
@overwrite
@debug_option
def command(run: str, out: str, names: str | None, **options: Any) -> None:
    """Draw the result or study in folder RUN as one HTML page, which needs no other file.

    This needs matplotlib: python -m pip install 'dnmf[plot]'.
    """
    import dnmf
    from dnmf.errors import InputError

    listed = None
    if names is not None:
        try:
            listed = Path(names).read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"cannot read names from {names}: {error}") from error
    path = dnmf.report(run, out, names=listed, **options)
    click.echo(f"wrote {path}")
