"""The panels of a study."""

from __future__ import annotations

from typing import Any

from dnmf.plots import study as plots
from dnmf.reporting.figures import Panel, draw
from dnmf.reporting.fit import shared_facts
from dnmf.values import format_bytes

__all__ = ["study_facts", "study_panels"]


def study_panels(study: Any) -> list[Panel]:
    """Draw every figure that is about k."""
    panels = []
    if study.held_out is not None:
        panels.append(
            draw(
                "Held-out error over k",
                "How badly entries are predicted that no model saw. It falls while components are "
                "real and is level or rises once they fit noise: take the smallest k before it "
                "levels off. The bars are standard errors of the distance from the best k.",
                lambda ax: plots.plot_held_out(study, ax),
                (7.2, 4.0),
            )
        )
    if len(study.seeds) > 1:
        panels.append(
            draw(
                "Stability over k",
                "Whether other starts find the same components. Near 1 they do; where a curve "
                "drops, a component of one run may be absent from the next. Only the silhouette's "
                "least value sees a single component that is unstable.",
                lambda ax: plots.plot_stability(study, ax),
                (7.2, 4.0),
            )
        )
    panels.append(
        draw(
            "Objective over k",
            "A point for every run. The objective always falls with k, so it cannot choose k; "
            "points far above others of the same k are runs that ended in a poor optimum.",
            lambda ax: plots.plot_objectives(study, ax),
        )
    )
    k = study.recommend().k
    if k is not None and len(study.seeds) > 1:
        panels.append(
            draw(
                f"Consensus at k = {k}",
                "Bright squares along the diagonal are groups that stay together in every run; a "
                "blurred map says that the runs group them differently.",
                lambda ax: plots.plot_consensus(study, k, ax),
                (5.4, 4.4),
            )
        )
    return panels


def study_facts(study: Any) -> list[tuple[str, str]]:
    """List label and value of what ran."""
    facts = study.facts
    whole = [line for line in study.models if line["fold"] is None]
    folds = len(study.models) - len(whole)
    shape = study.results[0].shape if study.results else None
    passes = [line["passes"] for line in study.models]
    found = [
        ("Study", study.path or "in memory"),
        ("Data", str(facts.get("source", "in memory"))),
        ("V", f"{shape[0]:,} x {shape[1]:,}" if shape else "unknown"),
        ("k", ", ".join(map(str, study.ks))),
        ("Models", f"{len(whole)} of all of V, {folds} that left a fold out"),
        ("Passes", f"{min(passes)} to {max(passes)} by model"),
    ]
    if study.reads is not None:
        found += [
            ("Reads of V", f"{study.reads:.3g} for all models, the scan included"),
            ("Bytes read", format_bytes(facts["bytes_read"])),
            ("Seconds in steps", f"{facts['seconds']:,.1f}"),
        ]
    return [*found, *shared_facts(facts, study)]
