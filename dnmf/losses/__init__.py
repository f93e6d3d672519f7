"""Losses: what a block does to W and to the statistics, and what those do to H."""

from __future__ import annotations

from dnmf.errors import OptionError
from dnmf.losses.base import Loss
from dnmf.losses.limits import LossLimits
from dnmf.losses.values import NO_PENALTIES, Penalties
from dnmf.names import load

__all__ = [
    "ANY_BETA",
    "BETAS",
    "LOSSES",
    "POWERS",
    "Loss",
    "LossLimits",
    "get_loss",
    "knows_missing",
    "loss_class",
    "loss_names",
]

LOSSES: dict[tuple[str, str | None, bool], str] = {
    ("frobenius", "hals", False): "dnmf.losses.frobenius:Frobenius",
    ("frobenius", "mu", False): "dnmf.losses.lee_seung:LeeSeung",
    ("frobenius", "hals", True): "dnmf.losses.masked:MaskedFrobenius",
    ("kullback-leibler", None, False): "dnmf.losses.kullback_leibler:KullbackLeibler",
    ("kullback-leibler", "mu", False): "dnmf.losses.lee_seung_kl:LeeSeungKL",
    ("kullback-leibler", None, True): "dnmf.losses.masked:MaskedKullbackLeibler",
    ("itakura-saito", None, False): "dnmf.losses.beta:ItakuraSaito",
    ("itakura-saito", "mu", False): "dnmf.losses.beta:ClassicItakuraSaito",
    ("beta", None, False): "dnmf.losses.beta:Beta",
    ("beta", "mu", False): "dnmf.losses.beta:ClassicBeta",
}
"""The class for a name, a solver (None: one that has no name) and whether entries that a sparse
block does not store are unobserved. The first solver of a name is the loss's own."""

ANY_BETA = "beta"
"""The name of the loss that is asked for by its beta."""

BETAS = {"frobenius": 2.0, "kullback-leibler": 1.0, "itakura-saito": 0.0}
"""The beta-divergences that have names."""

POWERS = ("itakura-saito",)
"""The named beta-divergences that are solved as any other beta is."""


def loss_names() -> list[str]:
    """Return all names, in the order of the registry."""
    return list(dict.fromkeys(name for name, _, _ in LOSSES))


def knows_missing(name: str) -> bool:
    """Return whether the loss of this name can take entries as unobserved."""
    return any(known == name and masked for known, _, masked in LOSSES)


def loss_class(
    name: str, solver: str | None = None, masked: bool = False, beta: float | None = None
) -> type[Loss]:
    """Return the class of these options, which declares what the loss offers.

    Parameters
    ----------
    name : str
    solver : {"hals", "mu"}, optional
        Instead of the loss's own.
    masked : bool
        Entries that a sparse block does not store are unobserved, instead of zero.
    beta : float, optional
        For messages.

    Raises
    ------
    OptionError
        No loss has this name (lists those that exist), or it has no such solver.
    """
    if name not in loss_names():
        raise OptionError(f"loss is {name!r}; it must be one of {', '.join(loss_names())}")
    called = name if beta is None or name != ANY_BETA else f"{name} (beta = {beta:g})"
    found = {key[1]: where for key, where in LOSSES.items() if key[::2] == (name, masked)}
    if not found:
        known = " and ".join(repr(other) for other in loss_names() if knows_missing(other))
        raise OptionError(
            f"missing entries (missing=) and weights (weights=) are known to the losses "
            f"{known}, not to {called!r}"
        )
    if solver not in (None, *found):
        others = " or ".join(repr(one) for one in found if one) or "its default solver alone"
        raise OptionError(
            f"solver is {solver!r}, but loss {called!r}"
            f"{' with missing entries or weights' if masked else ''} is minimised by {others}"
        )
    own = next(iter(found))
    made: type[Loss] = load(found[own if solver is None else solver])
    return made


def get_loss(
    name: str,
    penalties: Penalties = NO_PENALTIES,
    solver: str | None = None,
    beta: float | None = None,
    masked: bool = False,
    fixed: int = 0,
    limits: LossLimits | None = None,
) -> Loss:
    """Return a loss with these parameters.

    Parameters
    ----------
    name, solver, masked
        Arguments of `loss_class`.
    penalties : Penalties
        Penalties of the step that the loss is for.
    beta : float, optional
        Where ``name`` is ``"beta"``.
    fixed : int
        So many first rows of H are given.
    limits : LossLimits, optional
        Those of the run's plan; by default the ones that a plan has by default.

    Raises
    ------
    OptionError
        No loss has this name (lists those that exist), or it has no such solver.
    """
    found = loss_class(name, solver, masked, beta)
    return found.make(penalties, fixed, limits or LossLimits(), beta)
