"""Losses: what a block does to W and to the statistics, and what those do to H."""

from __future__ import annotations

from dnmf.errors import OptionError
from dnmf.losses.base import NO_PENALTIES, Loss, Penalties
from dnmf.names import load

__all__ = ["LOSSES", "MASKED", "Loss", "get_loss"]

MASKED: dict[str, str] = {
    "frobenius": "dnmf.losses.masked:MaskedFrobenius",
    "kullback-leibler": "dnmf.losses.masked:MaskedKullbackLeibler",
}
"""The losses that know unobserved entries: those that a sparse block does not store."""

LOSSES: dict[str, str] = {
    "frobenius": "dnmf.losses.frobenius:Frobenius",
    "kullback-leibler": "dnmf.losses.kullback_leibler:KullbackLeibler",
    "itakura-saito": "dnmf.losses.beta:ItakuraSaito",
    "beta": "dnmf.losses.beta:Beta",
}


def get_loss(
    name: str,
    penalties: Penalties = NO_PENALTIES,
    solver: str | None = None,
    beta: float | None = None,
    masked: bool = False,
    fixed: int = 0,
) -> Loss:
    """The loss of this name.

    Parameters
    ----------
    name : str
    penalties : Penalties
        Of the step that it is for.
    solver : {"hals", "mu"}, optional
        Instead of the loss's own.
    beta : float, optional
        Where ``name`` is ``"beta"``.
    masked : bool
        Entries that a sparse block does not store are unobserved, instead of zero.
    fixed : int
        So many first rows of H are held.

    Raises
    ------
    OptionError
        No loss has this name (lists those that exist), or it has no such solver.
    """
    if name not in LOSSES:
        raise OptionError(f"loss is {name!r}; it must be one of {', '.join(LOSSES)}")
    called = name if beta is None or name != "beta" else f"{name} (beta = {beta:g})"
    if masked and name not in MASKED:
        raise OptionError(
            f"missing entries (missing=) and weights (weights=) are known to the losses "
            f"{' and '.join(map(repr, MASKED))}, not to {called!r}"
        )
    made = load((MASKED if masked else LOSSES)[name])
    if solver not in (None, *made.solvers):
        others = " or ".join(map(repr, made.solvers)) or "its default solver alone"
        raise OptionError(
            f"solver is {solver!r}, but loss {called!r}"
            f"{' with missing entries or weights' if masked else ''} is minimised by {others}"
        )
    loss: Loss = made.make(penalties, solver, beta)
    loss.fixed = fixed
    return loss
