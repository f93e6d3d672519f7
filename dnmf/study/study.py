"""The study: results of many models, and what they say together."""

from __future__ import annotations

import os
from functools import cached_property
from typing import Any

import numpy as np

from dnmf.errors import OptionError, RunError
from dnmf.linalg.own_state import own_state
from dnmf.losses import loss_class
from dnmf.results.models import Models, open_models
from dnmf.results.result import Result
from dnmf.study.held_out import HeldOut, empty_folds, folds_without_entries, held_out_by_k
from dnmf.study.recommend import Recommendation, recommend
from dnmf.study.stability import Stability, stability

__all__ = ["Study"]

CONSENSUS_ROWS = 2000


class Study:
    """Models of one V that shared its reads.

    Make one with `dnmf.fit_many`, or open one with `dnmf.open`.

    Parameters
    ----------
    models : Models
        Results of one run, and what the run says of itself.

    Attributes
    ----------
    path : str or None
    done : bool
    results : list of Result
        Results of the models that saw all of V.
    facts : dict
        What the run says of itself, JSON.
    """

    def __init__(self, models: Models) -> None:
        self._models = models
        self.path, self.done = models.path, models.done
        self.results, self.facts = models.results, models.facts
        self._stability: dict[int, Stability] = {}

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Study:
        """Open a study, finished or as far as it is committed.

        Parameters
        ----------
        path : path or URL
            The run folder.

        Returns
        -------
        Study
            What is there.
        """
        return cls(open_models(path))

    @property
    def models(self) -> list[dict[str, Any]]:
        """A line per model: k, seed, fold, objective, held_out, passes, stop_reason."""
        lines: list[dict[str, Any]] = self.facts["models"]
        return lines

    @cached_property
    def _whole(self) -> list[dict[str, Any]]:
        return [line for line in self.models if line["fold"] is None]

    @property
    def ks(self) -> list[int]:
        """Numbers of components, ascending."""
        return sorted({line["k"] for line in self._whole})

    @property
    def seeds(self) -> list[int]:
        """Seeds, as they were given."""
        return list(dict.fromkeys(line["seed"] for line in self._whole))

    @property
    def reads(self) -> float | None:
        """Number of reads of V, the scan included; None while the study runs."""
        return self.facts.get("reads")

    def runs(self, k: int) -> list[Result]:
        """Give the results of one k.

        Parameters
        ----------
        k : int
            One of ``ks``.

        Returns
        -------
        list of Result
            By seed, in the order of ``seeds``.
        """
        found = [r for line, r in zip(self._whole, self.results, strict=True) if line["k"] == k]
        if not found:
            known = ", ".join(map(str, self.ks))
            raise OptionError(f"the study has no models of k = {k}; it has k = {known}")
        return found

    def result(self, k: int, seed: int | None = None) -> Result:
        """Give one result of k components.

        Parameters
        ----------
        k : int
            One of ``ks``.
        seed : int, optional
            Whose; by default that of the lowest objective.

        Returns
        -------
        Result
            The result of this k and seed.
        """
        runs = self.runs(k)
        if seed is not None:
            if seed not in self.seeds:
                raise OptionError(f"the study has no seed {seed}; it has {self.seeds}")
            return runs[self.seeds.index(seed)]
        whole = [run for run in runs if run.objective is not None]
        if not whole:
            raise RunError(f"no model of k = {k} has finished a pass yet; go on with dnmf resume")
        return min(whole, key=lambda run: run.objective or 0.0)

    @cached_property
    @own_state()
    def held_out(self) -> HeldOut | None:
        """Held-out errors by k and fold; None where nothing was left out."""
        return held_out_by_k(self.models, float(self.facts["config"]["tol"]))

    @own_state()
    def stability(self, k: int) -> Stability:
        """Tell how alike the runs of one k are; computed when first asked for.

        Parameters
        ----------
        k : int
            One of ``ks``.

        Returns
        -------
        Stability
            The runs, matched component by component.
        """
        if k not in self._stability:
            runs = self.runs(k)
            sample = _row_sample(runs[0].shape, CONSENSUS_ROWS)
            by_columns = not loss_class(self.facts["config"]["loss"]).unit_norm
            objectives = [float(run.objective or np.nan) for run in runs]
            Hs = [np.asarray(run.H) for run in runs]
            Ws = [_rows(run.W, sample) for run in runs]
            self._stability[k] = stability(Hs, Ws, objectives, by_sum=by_columns)
        return self._stability[k]

    @own_state()
    def recommend(self) -> Recommendation:
        """Recommend a number of components, with the reasons in sentences.

        Held-out error decides (the smallest k within one standard error of the best); stability
        of the runs supports or contradicts it; weak evidence is called weak.

        Returns
        -------
        Recommendation
            The number, the reasons, and whether the evidence is weak.
        """
        table = {k: self.stability(k) for k in self.ks} if len(self.seeds) > 1 else {}
        empty = empty_folds(self.models)
        none = set(empty) <= folds_without_entries(self.models)
        return recommend(self.ks, self.held_out, table, bool(empty), none)

    @own_state()
    def plot_held_out(self, ax: Any = None) -> Any:
        """Draw the held-out error over k; needs matplotlib.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, optional
            To draw on; by default those of a new figure.

        Returns
        -------
        matplotlib.axes.Axes
            What was drawn on.
        """
        from dnmf.plots.study import plot_held_out

        return plot_held_out(self, ax)

    @own_state()
    def plot_stability(self, ax: Any = None) -> Any:
        """Draw how alike the runs of every k are; needs matplotlib.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, optional
            To draw on; by default those of a new figure.

        Returns
        -------
        matplotlib.axes.Axes
            What was drawn on.
        """
        from dnmf.plots.study import plot_stability

        return plot_stability(self, ax)

    @own_state()
    def plot_objectives(self, ax: Any = None) -> Any:
        """Draw the objective of every run over k; needs matplotlib.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, optional
            To draw on; by default those of a new figure.

        Returns
        -------
        matplotlib.axes.Axes
            What was drawn on.
        """
        from dnmf.plots.study import plot_objectives

        return plot_objectives(self, ax)

    @own_state()
    def plot_consensus(self, k: int, ax: Any = None) -> Any:
        """Draw the consensus of the runs of one k; needs matplotlib.

        Parameters
        ----------
        k : int
            One of ``ks``.
        ax : matplotlib.axes.Axes, optional
            To draw on; by default those of a new figure.

        Returns
        -------
        matplotlib.axes.Axes
            What was drawn on.
        """
        from dnmf.plots.study import plot_consensus

        return plot_consensus(self, k, ax)

    def __repr__(self) -> str:
        where = self.path or "in memory"
        state = "done" if self.done else "in progress"
        sizes = f"k = {self.ks[0]}" if len(self.ks) == 1 else f"k = {self.ks[0]} to {self.ks[-1]}"
        return f"<dnmf.Study {where}: {sizes}, {len(self.seeds)} seed(s) each; {state}>"


def _row_sample(shape: tuple[int, int] | None, most: int) -> np.ndarray | None:
    """Choose rows of W to look at, evenly spaced; None for all."""
    if shape is None or shape[0] <= most:
        return None
    return np.unique(np.linspace(0, shape[0] - 1, most).astype(np.int64))


def _rows(W: Any, sample: np.ndarray | None) -> np.ndarray:
    if sample is None:
        return np.asarray(W[:])
    if isinstance(W, np.ndarray):
        return W[sample]
    if hasattr(W, "oindex"):  # a Zarr array
        return np.asarray(W.oindex[sample, slice(None)])
    return np.asarray(W[sample])
