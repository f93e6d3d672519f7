"""The figures of a result, as methods."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from dnmf.linalg.own_state import own_state

if TYPE_CHECKING:
    from dnmf.labels import Labels

__all__ = ["Figures"]


class Figures:
    """Methods that draw a result; columns have the names that V had, unless others are given."""

    if TYPE_CHECKING:

        @property
        def column_names(self) -> Labels | None: ...

    @own_state()
    def plot_objective(self, ax: Any = None) -> Any:
        """Draw the objective after every pass; needs matplotlib.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, optional
            To draw on; by default those of a new figure.

        Returns
        -------
        matplotlib.axes.Axes
            What was drawn on.
        """
        from dnmf.plots.fit import plot_objective

        return plot_objective(self, ax)

    @own_state()
    def plot_kkt(self, ax: Any = None) -> Any:
        """Draw how far W and H are from optimal after every pass; needs matplotlib.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, optional
            To draw on; by default those of a new figure.

        Returns
        -------
        matplotlib.axes.Axes
            What was drawn on.
        """
        from dnmf.plots.fit import plot_kkt

        return plot_kkt(self, ax)

    @own_state()
    def plot_rounds(self, ax: Any = None) -> Any:
        """Draw what rounds between reads predicted, and what came; needs matplotlib.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, optional
            To draw on; by default those of a new figure.

        Returns
        -------
        matplotlib.axes.Axes
            What was drawn on.
        """
        from dnmf.plots.fit import plot_rounds

        return plot_rounds(self, ax)

    @own_state()
    def plot_H(self, ax: Any = None, names: Sequence[str] | None = None) -> Any:
        """Draw H as a heat map; needs matplotlib.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, optional
            To draw on; by default those of a new figure.
        names : sequence of str, optional
            Of the d columns of V, by default those that V had; shown where there are at most 60.

        Returns
        -------
        matplotlib.axes.Axes
            What was drawn on.
        """
        from dnmf.plots.fit import plot_H

        return plot_H(self, ax, self.column_names if names is None else names)

    @own_state()
    def plot_features(
        self, component: int, ax: Any = None, names: Sequence[str] | None = None, top: int = 10
    ) -> Any:
        """Draw the largest entries of one row of H; needs matplotlib.

        Parameters
        ----------
        component : int
            Of the row, 0 to k - 1.
        ax : matplotlib.axes.Axes, optional
            To draw on; by default those of a new figure.
        names : sequence of str, optional
            Of the d columns of V, by default those that V had.
        top : int
            How many entries.

        Returns
        -------
        matplotlib.axes.Axes
            What was drawn on.
        """
        from dnmf.plots.fit import plot_features

        names = self.column_names if names is None else names
        return plot_features(self, component, ax, names, top)

    @own_state()
    def plot_images(self, shape: tuple[int, int], figure: Any = None) -> np.ndarray:
        """Draw rows of H as images; needs matplotlib.

        Parameters
        ----------
        shape : (int, int)
            Rows and columns of pixels, whose product is d.
        figure : matplotlib.figure.Figure, optional
            To draw on; by default a new one.

        Returns
        -------
        array of matplotlib.axes.Axes
            What was drawn on.
        """
        from dnmf.plots.canvas import new_figure
        from dnmf.plots.fit import draw_images

        return draw_images(self, shape, new_figure() if figure is None else figure)

    @own_state()
    def plot_W(self, ax: Any = None) -> Any:
        """Draw how W is spread over rows, component by component; needs matplotlib.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, optional
            To draw on; by default those of a new figure.

        Returns
        -------
        matplotlib.axes.Axes
            What was drawn on.
        """
        from dnmf.plots.fit import plot_W

        return plot_W(self, ax)

    @own_state()
    def plot_share(self, ax: Any = None) -> Any:
        """Draw how much each component makes up; needs matplotlib.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, optional
            To draw on; by default those of a new figure.

        Returns
        -------
        matplotlib.axes.Axes
            What was drawn on.
        """
        from dnmf.plots.fit import plot_share

        return plot_share(self, ax)
