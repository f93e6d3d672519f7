"""The result of a fit: W, H and how they came about."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from dnmf.errors import RunError
from dnmf.fitting.unsolved import open_rows_remark
from dnmf.labels import Labels
from dnmf.linalg.own_state import own_state
from dnmf.results.drawn import Figures
from dnmf.runs.records import finite

__all__ = ["Result"]


@dataclass(frozen=True, repr=False, eq=False)
class Result(Figures):
    """A factorization V ~ W H, finished or as far as it is committed.

    Make one with ``dnmf.fit`` or ``dnmf.open``.

    Attributes
    ----------
    path : str or None
        The run folder; None for a result in memory.
    done : bool
        Whether the fit is complete (and published, where it has a folder).
    stop_reason : str or None
        The sentence; None while the fit runs.
    objective, relative_error : float or None
        Objective and error of the pair W, H; None before the first pass.
    history : list of dict
        One row per pass: ``pass``, ``objective``, ``relative_error``, ``kkt_W``, ``kkt_H``,
        ``accepted``, ``bytes_read``, ``seconds``, ...
    config : dict
        The options.
    fingerprint : str or None
        Fingerprint of V.
    versions : dict of str to str
        Versions of the packages that computed the result.
    details : dict
        What else the run says of itself, JSON.
    """

    path: str | None
    done: bool
    stop_reason: str | None
    objective: float | None
    relative_error: float | None
    history: list[dict[str, Any]]
    config: dict[str, Any]
    fingerprint: str | None
    versions: dict[str, str]
    details: dict[str, Any] = field(default_factory=dict)
    _factors: dict[str, Any] = field(default_factory=dict)
    _columns: Labels | Callable[[], Labels] | None = None

    @classmethod
    def in_memory(
        cls,
        W: Any,
        H: Any,
        *,
        history: Sequence[Mapping[str, Any]] = (),
        objective: float | None = None,
        relative_error: float | None = None,
        stop_reason: str | None = None,
        config: Mapping[str, Any] | None = None,
        fingerprint: str | None = None,
        versions: Mapping[str, str] | None = None,
        details: Mapping[str, Any] | None = None,
        columns: Sequence[str] | None = None,
    ) -> Result:
        """Make a finished result without a folder.

        Parameters
        ----------
        W : (n, k) array
            The row factor.
        H : (k, d) array
            The column factor.
        history : sequence of dict
            One row per pass.
        objective, relative_error : float, optional
            Of W and H.
        stop_reason : str, optional
            Why the fit ended, a sentence.
        config : mapping, optional
            The options.
        fingerprint : str, optional
            Fingerprint of V.
        versions : mapping, optional
            Versions of the packages that computed it.
        details : mapping, optional
            What else there is to say of the run.
        columns : sequence of str, optional
            Names of the columns of V.

        Returns
        -------
        Result
            The result, which is done.
        """
        return cls(
            path=None,
            done=True,
            stop_reason=stop_reason,
            objective=objective,
            relative_error=relative_error,
            history=[dict(row) for row in history],
            config=dict(config or {}),
            fingerprint=fingerprint,
            versions=dict(versions or {}),
            details=dict(details or {}),
            _factors={"W": W, "H": H},
            _columns=None if columns is None else tuple(columns),
        )

    @property
    def W(self) -> Any:
        """The row factor (n, k): NumPy, a Zarr array, or rows read on demand (`StoredRows`)."""
        return self._factor("W")

    @property
    def H(self) -> Any:
        """The column factor (k, d): NumPy or a Zarr array."""
        return self._factor("H")

    @property
    def column_names(self) -> Labels | None:
        """Names of the columns of V and of H, a tuple of str; None where V had none."""
        return self._columns() if callable(self._columns) else self._columns

    @own_state()
    def components(self) -> Any:
        """Return H by name; needs xarray.

        Returns
        -------
        xarray.DataArray
            (k, d), in memory: dimensions ``component`` (0 to k - 1) and ``column``, with the names
            of V's columns, or 0 to d - 1 where V had none. ``.to_pandas()`` makes a frame of it,
            ``.sel(column="LYZ")`` selects a column.

        Raises
        ------
        MissingDependencyError
            xarray is not installed.
        """
        from dnmf.results.labelled import labelled_H

        return labelled_H(np.asarray(self.H), self.column_names)

    @own_state()
    def _factor(self, name: str) -> Any:
        found = self._factors.get(name)
        if found is None:
            where = self.path or "the result"
            reason = "it was not stored" if self.done else "no pass is committed yet: open it later"
            raise RunError(f"{where} has no {name}: {reason}")
        if callable(found):  # put together when first asked for
            found = self._factors[name] = found()
        return found

    @property
    def components_(self) -> np.ndarray:
        """H as a NumPy array, under scikit-learn's name."""
        return np.asarray(self.H)

    @property
    def n_components(self) -> int:
        """Number of components."""
        if "W" in self._factors:
            return int(self.W.shape[1])
        return int(self.details["k"])

    @property
    def k(self) -> int:
        """Number of components."""
        return self.n_components

    @property
    def passes(self) -> int:
        """Passes over V, accepted or not, without the scan."""
        return len(self.history)

    @property
    def open_rows(self) -> int | None:
        """Rows of W that are not solved at H.

        Of a fit, those that the pass of its W and H left before they reached its tolerance. None
        for fits by losses other than least squares, and by ``solver="mu"``: their passes take a
        few steps of each row, as `dnmf.transform` does not.
        """
        found = self.details.get("open_rows")
        return None if found is None else int(found)

    @property
    def open_rows_remark(self) -> str | None:
        """A sentence about the rows that are not solved; None where there is nothing to say."""
        if self.details.get("mode") == "transform":
            return self.stop_reason if self.open_rows else None
        n = self.shape[0] if self.shape else 0
        return open_rows_remark(self.open_rows, n, str(self.details.get("stop_kind")))

    @property
    def shape(self) -> tuple[int, int] | None:
        """Shape (n, d) of V, where it is known."""
        shape = self.details.get("shape")
        if shape is not None:
            return int(shape[0]), int(shape[1])
        if {"W", "H"} <= set(self._factors):
            return int(self.W.shape[0]), int(self.H.shape[1])
        return None

    def inspect(self) -> dict[str, Any]:
        """Tell all there is to know besides W and H, as JSON.

        Returns
        -------
        dict
            Facts by name.
        """
        facts = {
            "path": self.path,
            "done": self.done,
            "stop_reason": self.stop_reason,
            "shape": self.shape,
            "n_components": self.n_components,
            "objective": self.objective,
            "relative_error": self.relative_error,
            "passes": self.passes,
            "history": self.history,
            "config": self.config,
            "fingerprint": self.fingerprint,
            "versions": self.versions,
        }
        known: dict[str, Any] = finite({**self.details, **facts})
        return known

    def __repr__(self) -> str:
        shape = self.shape
        what = f"{shape[0]} x {shape[1]}, " if shape else ""
        error = f", relative error {self.relative_error:.5g}" if self.relative_error else ""
        state = "in progress" if not self.done else self.stop_reason or "done"
        passes = f"{self.passes} pass" + ("" if self.passes == 1 else "es")
        where = self.path or "in memory"
        return f"<dnmf.Result {where}: {what}k={self.k}{error} after {passes}; {state}>"
