"""The loss of one step: penalties are in proportion to the step's rows."""

from __future__ import annotations

from dnmf.config import FitConfig
from dnmf.losses import get_loss
from dnmf.losses.base import Loss
from dnmf.losses.values import Penalties
from dnmf.planning.plan import Plan

__all__ = ["loss_of", "tall_and_wide"]


def tall_and_wide(plan: Plan) -> tuple[float, float]:
    """Return alpha of the tall factor and of the wide one (by columns W is the wide one).

    That of the tall one is multiplied by a number of columns, which has to be that of V: where the
    plan leaves some out, it grows accordingly. So does that of the wide one with rows.
    """
    alpha_W, alpha_H = plan.config.alphas
    tall, wide = (alpha_W, alpha_H) if plan.axis == "rows" else (alpha_H, alpha_W)
    n, d = plan.shape
    return tall * (plan.all_columns / d), wide * (plan.all_rows / n)


def loss_of(plan: Plan, rows: int, columns: int | None = None, masked: bool | None = None) -> Loss:
    """Return the loss over so many rows (and columns), with penalties by scikit-learn's rule.

    l1_W = d alpha_W l1_ratio, l2_W = d alpha_W (1 - l1_ratio); those of H have the number of
    rows for d: on a sample its own, or the sample would solve another problem.
    """
    config: FitConfig = plan.config
    tall, wide = tall_and_wide(plan)
    d, l1, l2 = columns or plan.shape[1], config.l1_ratio, 1.0 - config.l1_ratio
    penalties = Penalties(d * tall * l1, d * tall * l2, rows * wide * l1, rows * wide * l2)
    masked = config.masked if masked is None else masked
    how = config.solver, config.beta, masked, config.fixed, plan.limits.losses
    return get_loss(config.loss, penalties, *how)
