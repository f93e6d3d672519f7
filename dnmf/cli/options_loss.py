"""Options of what is minimised, and of where it starts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from dnmf.cli.options import option, options
from dnmf.config import OPTIONS

__all__ = ["loss_options", "read_rows", "start_options"]

F = TypeVar("F", bound=Callable[..., Any])


class _Loss(click.ParamType):
    """A name, or beta of any other divergence."""

    name = "loss"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> str | float:
        from dnmf.losses import ANY_BETA, loss_names

        try:
            return float(value)
        except ValueError:
            pass
        names = [name for name in loss_names() if name != ANY_BETA]
        if value not in names:
            self.fail(f"{value!r} is no loss; give {', '.join(names)} or a number (beta)")
        return str(value)


_LOSS = click.option(
    "--loss",
    type=_Loss(),
    metavar="NAME|BETA",
    help="Divergence of V and W H that is minimised: frobenius (least squares), kullback-leibler "
    "(counts), itakura-saito (power spectra), or a number, beta of another one "
    "[default: frobenius].",
)
_INIT = click.option(
    "--init",
    type=click.Choice(["random", "nndsvd", "nndsvda", "nndsvdar"]),
    help="How H starts: at random, or from singular vectors, as in scikit-learn [default: random].",
)
_WEIGHTS = click.option("--weights", metavar="PATH", help=OPTIONS["weights"].metadata["help"])
_FIXED_H = click.option(
    "--fixed-H",
    "fixed_H",
    metavar="PATH",
    help="Rows of H that are known and stay as they are, the first components of the result: "
    "a .npy file or a Zarr array.",
)


def read_rows(path: str, missing_chunks: str | None) -> Any:
    """Open rows of H, a .npy file or a Zarr array, all of whose chunks must be there."""
    from dnmf.errors import InputError
    from dnmf.sources import open_source
    from dnmf.sources.missing import check_whole

    try:
        source = open_source(path)
    except InputError as error:
        raise InputError(f"--fixed-H: {error}") from error
    check_whole(source, missing_chunks or "auto")
    return source


def loss_options(function: F) -> F:
    """Declare ``--loss``, the penalties, and what is observed and kept of V."""
    function = options("sample", "sample_bytes")(function)
    function = _WEIGHTS(options("missing", "clip")(function))
    function = _INIT(options("normalize")(function))
    return _LOSS(options("solver", "alpha_W", "alpha_H", "l1_ratio")(function))


def start_options(function: F) -> F:
    """Declare ``--fixed-H`` and ``--n-init``.

    A study has neither: it compares what its fits learn, and its seeds are its starts.
    """
    return _FIXED_H(option("n_init")(function))
