"""Losses: what a block does to W and to the statistics, and what those do to H."""

from __future__ import annotations

from importlib import import_module

from dnmf.errors import OptionError
from dnmf.losses.base import Loss

__all__ = ["LOSSES", "Loss", "get_loss"]

LOSSES: dict[str, str] = {
    "frobenius": "dnmf.losses.frobenius:Frobenius",
    "kullback-leibler": "dnmf.losses.kullback_leibler:KullbackLeibler",
}


def get_loss(name: str) -> Loss:
    """The loss of this name.

    Raises
    ------
    OptionError
        No loss has this name; lists those that exist.
    """
    if name not in LOSSES:
        raise OptionError(f"loss is {name!r}; it must be one of {', '.join(LOSSES)}")
    module, _, attribute = LOSSES[name].partition(":")
    loss: Loss = getattr(import_module(module), attribute)()
    return loss
