"""Options of what is minimised, and of where it starts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from dnmf.cli.options import Size

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


class _Alpha(click.ParamType):
    """A number, or the word ``same``."""

    name = "alpha"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> str | float:
        if value == "same":
            return "same"
        try:
            return float(value)
        except ValueError:
            self.fail(f"{value!r} is neither a number nor 'same'")


_OPTIONS = (
    click.option(
        "--loss",
        type=_Loss(),
        metavar="NAME|BETA",
        help="Divergence: frobenius, kullback-leibler, itakura-saito or beta [frobenius].",
    ),
    click.option(
        "--solver", type=click.Choice(["hals", "mu"]), help="Instead of the loss's own solver."
    ),
    click.option("--alpha-W", "alpha_W", type=click.FloatRange(min=0), help="Penalty of W."),
    click.option("--alpha-H", "alpha_H", type=_Alpha(), help="Penalty of H [default: same]."),
    click.option(
        "--l1-ratio", type=click.FloatRange(0, 1), help="Share of l1 in the penalties [default: 0]."
    ),
    click.option(
        "--init",
        type=click.Choice(["random", "nndsvd", "nndsvda", "nndsvdar"]),
        help="Where H starts [default: random].",
    ),
    click.option(
        "--normalize",
        type=click.Choice(["components", "weights"]),
        help="Rows of H, or columns of W, of the result have unit size.",
    ),
    click.option(
        "--missing",
        type=click.Choice(["nan", "zeros"]),
        help="Entries that are unobserved: NaN, or what a sparse V does not store.",
    ),
    click.option(
        "--weights",
        metavar="PATH",
        help="A matrix of weights of V's entries; 0 is unobserved, 1/sigma^2 for uncertainties.",
    ),
    click.option(
        "--sample",
        type=click.FloatRange(0, 1),
        help="Share of rows that the scan keeps, to be fitted first; 0: none [default: 0.2].",
    ),
    click.option(
        "--sample-bytes", type=Size(0), help="Most bytes of the sample; 0: none [default: 1GiB]."
    ),
)

_OF_ONE_FIT = (
    click.option(
        "--fixed-H",
        "fixed_H",
        metavar="PATH",
        help="Rows of H that are held, the first components: .npy, or an array in Zarr.",
    ),
    click.option(
        "--n-init",
        type=click.IntRange(min=1),
        metavar="N",
        help="Random starts that race on the sample [default: 2].",
    ),
)
"""A study compares what is learned: no row is held. And its seeds are starts already."""


def read_rows(path: str) -> Any:
    """A small matrix, rows of H, in a .npy file or in Zarr as an array."""
    import numpy as np

    from dnmf.errors import InputError
    from dnmf.sources import open_source

    try:
        source = open_source(path)
    except InputError as error:
        raise InputError(f"--fixed-H: {error}") from error
    (block,) = source.read_blocks([0, source.shape[0]])
    return block if isinstance(block, np.ndarray) else block.toarray()


def loss_options(function: F) -> F:
    """``--loss``, penalties and ``--sample``."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


def start_options(function: F) -> F:
    """``--fixed-H`` and ``--n-init``."""
    for option in reversed(_OF_ONE_FIT):
        function = option(function)
    return function
