"""The class NMF: `dnmf.fit` and `dnmf.transform` behind scikit-learn's interface."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager
from copy import deepcopy
from typing import Any

import numpy as np
from sklearn import get_config
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin, clone
from sklearn.utils.metadata_routing import UNUSED
from sklearn.utils.validation import check_is_fitted

from dnmf import api
from dnmf.estimator.inputs import (
    checked_input,
    components_in_order,
    content,
    is_stored,
    module,
    place,
    refuse_same_place,
    rows_in_order,
    weight_matrix,
)
from dnmf.estimator.logs import shown, warn_if_open, warn_if_unfinished
from dnmf.estimator.parameters import (
    check_parameters,
    seed_of,
    solver_of,
    start_of,
)
from dnmf.executors.threads import Threads
from dnmf.interop.objects import as_dask
from dnmf.launch.transform import transformed
from dnmf.linalg.own_state import own_state
from dnmf.results.result import Result

__all__ = ["NMF"]


class NMF(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """Non-negative matrix factorization with scikit-learn's interface, in memory or out of core.

    Replaces ``sklearn.decomposition.NMF`` by changing the import. X (n x d) is approximated by
    W (n x k) times ``components_`` H (k x d), all entries 0 or more, minimising 1/2 |X - W H|^2
    or another divergence, plus penalties. X may be a NumPy array, a scipy sparse matrix, a data
    frame or a list, which are fitted in this process, and whatever else `dnmf.fit` reads: a path
    or URL, a Zarr array or group, a Dask array. These are read block by block, on ``client`` if
    there is one, and W comes back lazily: as a Dask array for a Dask array, else as a Zarr array.

    There is no ``partial_fit``: feeding a stored matrix through it batch by batch gives another,
    worse factorization than ``fit`` (later batches overrule earlier ones, and W of the early
    rows belongs to components that changed since). Its purpose, data larger than memory, needs
    no batches here: store the matrix (``dnmf convert``) and give ``fit`` its path.

    Parameters
    ----------
    n_components : int, "auto" or None, default="auto"
        Number of components, k. ``"auto"``: as many as the given H has rows, without one as many
        as X has columns. None: as many as X has columns.
    init : {"random", "nndsvd", "nndsvda", "nndsvdar", "custom"} or None, default=None
        None is ``"random"``. ``"custom"`` starts from H and, if given, W of `fit_transform`.
    solver : {"cd", "mu", "auto"}, default="cd"
        Coordinate descent on the least squares problems of W and H; Lee and Seung's
        multiplicative rules, which need hundreds of passes; or the solver that the loss has of
        its own, the one to take for a ``beta_loss`` other than least squares.
    beta_loss : float or {"frobenius", "kullback-leibler", "itakura-saito"}, default="frobenius"
        The divergence that is minimised, or its beta.
    tol : float, default=1e-4
        The fit ends when the decrease of the objective that is still to be expected is at most
        ``tol`` times the objective or what is explained, as for `dnmf.fit` (scikit-learn compares
        violations of optimality instead).
    max_iter : int, default=200
        Most passes over X.
    random_state : int, RandomState, Generator or None, default=None
        Seed of the random start. None draws one, independent of NumPy's global seed.
    alpha_W, alpha_H, l1_ratio : float, default=0, "same", 0
        Penalties with scikit-learn's meaning and scaling.
    verbose : int, default=0
        1 logs every pass, 2 the plan too, as INFO of the logger ``"dnmf"``; where nobody
        configured logging, to standard error.
    shuffle : bool, default=False
        Only False.
    client : distributed.Client, optional
        Where to compute. None: for X in memory this process; for other X the active client,
        without one this process. Clones share it; a pickled model forgets it.
    out : path, optional
        Where the fit's run and result live (`dnmf.open`); needed on a cluster. Without it,
        results of stored X are in a temporary folder until this process ends.
    overwrite : bool, default=False
        Replace an earlier result of dnmf at ``out`` (fitting again needs it).
    block_size : int or str, optional
        Bytes of X that are decoded at once, e.g. ``"32MiB"``.
    dtype : {"float32", "float64"}, optional
        Type to compute in. By default float32 for X of float32, else float64, as in scikit-learn.
    n_init : int, default=1
        Random starts that are compared on a sample before the fit; `dnmf.fit` takes 2 by default.
    fixed_H : (r, d) array, optional
        Rows of ``components_`` that are known and stay as they are, r < k: the first r
        components, in this order and scale. The others are learned beside them.
    missing : {"nan", "zeros"} or None, default=None
        Entries of X that were not observed, in `fit` and `transform`: ``"nan"``, those that are
        NaN (X is dense); ``"zeros"``, those that a sparse X does not store, as for ratings. They
        have no part in anything; `inverse_transform` predicts them. For least squares and
        Kullback-Leibler.
    missing_chunks : {"auto", "fill", "error"}, default="auto"
        What missing chunks of stored X, weights and starts count as, as for `dnmf.fit`.
    clip : float, default=0
        Negative entries of X from -clip on count as 0, in `fit` and `transform`.

    Attributes
    ----------
    components_ : (k, d) array
        H. Its rows have unit norm and W carries the scale, unless penalties or `fixed_H` fix it. In
        order of falling share of X; those of ``init="custom"`` and `fixed_H` keep their order.
    n_components_ : int
    n_iter_ : int
        Passes over X.
    reconstruction_err_ : float
        Frobenius norm of X - W H (of the observed entries); of other losses the square root of
        twice their value, without penalties.
    stop_reason_ : str
        Why the fit ended, a sentence.
    history_ : list of dict
        One row per pass: objective, relative error, optimality, bytes read, seconds, ...
    n_features_in_ : int
    feature_names_in_ : (d,) array of str
        Only where X is a data frame whose columns have such names. scikit-learn refuses one with
        other names, or with these in another order.
    column_names_ : tuple of str or None
        Names of the columns of X: of any data frame, of AnnData or xarray, or of their stores.
        `transform` puts columns of another order in their place (unless scikit-learn refuses
        them), and refuses other names.

    Examples
    --------
    >>> import numpy as np
    >>> from dnmf import NMF
    >>> X = np.array([[1, 1], [2, 1], [3, 1.2], [4, 1], [5, 0.8], [6, 1]])
    >>> model = NMF(n_components=2, init="random", random_state=0)
    >>> W = model.fit_transform(X)
    >>> bool(np.abs(W @ model.components_ - X).max() < 2e-3)
    True
    """

    __metadata_request__transform = {"out": UNUSED}  # noqa: RUF012 (read by scikit-learn)

    def __init__(
        self,
        n_components: int | str | None = "auto",
        *,
        init: str | None = None,
        solver: str = "cd",
        beta_loss: float | str = "frobenius",
        tol: float = 1e-4,
        max_iter: int = 200,
        random_state: Any = None,
        alpha_W: float = 0.0,
        alpha_H: float | str = "same",
        l1_ratio: float = 0.0,
        verbose: int = 0,
        shuffle: bool = False,
        client: Any = None,
        out: str | os.PathLike[str] | None = None,
        overwrite: bool = False,
        block_size: int | str | None = None,
        dtype: Any = None,
        n_init: int = 1,
        fixed_H: Any = None,
        missing: str | None = None,
        missing_chunks: str = "auto",
        clip: float = 0.0,
    ) -> None:
        self.n_components = n_components
        self.init = init
        self.solver = solver
        self.beta_loss = beta_loss
        self.tol = tol
        self.max_iter = max_iter
        self.random_state = random_state
        self.alpha_W = alpha_W
        self.alpha_H = alpha_H
        self.l1_ratio = l1_ratio
        self.verbose = verbose
        self.shuffle = shuffle
        self.client = client
        self.out = out
        self.overwrite = overwrite
        self.block_size = block_size
        self.dtype = dtype
        self.n_init = n_init
        self.fixed_H = fixed_H
        self.missing = missing
        self.missing_chunks = missing_chunks
        self.clip = clip

    def fit(self, X: Any, y: Any = None, W: Any = None, H: Any = None, weights: Any = None) -> NMF:
        """Learn ``components_`` from X.

        Parameters
        ----------
        X, y, W, H, weights : matrix
            As for `fit_transform`.

        Returns
        -------
        NMF
            This model.
        """
        given, X = X, content(X)
        with own_state(), self._place(X, self.out, keep=False) as place:  # W is not asked for
            self._factorize(X, given, W, H, weights, place)
        return self

    def fit_transform(
        self, X: Any, y: Any = None, W: Any = None, H: Any = None, weights: Any = None
    ) -> Any:
        """Learn ``components_`` from X and return W.

        Parameters
        ----------
        X : (n, d) matrix
            Entries finite (or NaN, for ``missing="nan"``) and 0 or more. Never modified.
        y : object
            Ignored.
        W : (n, k) array, optional
            Start of W for ``init="custom"``; without it every row starts at 0.
        H : (k, d) array, optional
            Start of H, needed for ``init="custom"``.
        weights : (n, d) matrix, optional
            Weights of the entries of X, 0 or more, in any form that X may have: 0 for an entry
            that was not observed (X may be NaN there), 1 / sigma^2 for one with uncertainty
            sigma. For least squares and Kullback-Leibler. This is not scikit-learn's
            ``sample_weight``, which has one number per row.

        Returns
        -------
        (n, k) array
            NumPy where X was in memory, else lazy.

        Raises
        ------
        ValueError
            X, W, H or a parameter cannot be used (`dnmf.errors` has the classes).
        """
        given, X = X, content(X)
        with own_state(), self._place(X, self.out, keep=True) as place:
            return self._hand_back(self._factorize(X, given, W, H, weights, place).W, X)

    def transform(
        self, X: Any, *, weights: Any = None, out: str | os.PathLike[str] | None = None
    ) -> Any:
        """Compute W of the rows of X at the learned ``components_``, in one read of X.

        Parameters
        ----------
        X : (m, d) matrix
            Rows with the columns of the fitted data, see ``column_names_``.
        weights : (m, d) matrix, optional
            Weights of these entries, as for `fit_transform`.
        out : path, optional
            Where W is written, as a Zarr group; needed on a cluster.

        Returns
        -------
        (m, k) array
            NumPy where X is in memory, else lazy.
        """
        check_is_fitted(self)
        given, X = X, content(X)
        refuse_same_place(out, self.out)
        with (
            own_state(),
            self._place(X, out, keep=True) as place,
            shown(self.verbose) as listener,
        ):
            V, dtype = checked_input(self, X, given, weights, False, self._executor(X))
            options, H = self._arguments(X, weights, dtype), components_in_order(self, V)
            to = {"out": place, "overwrite": self.overwrite, "on_event": listener}
            result = transformed(V, H, options["executor"], options, **to)
        warn_if_open(result)
        return self._hand_back(result.W, X)

    def inverse_transform(self, X: Any) -> Any:
        """Compute the data that W stands for: W times ``components_``.

        Parameters
        ----------
        X : (m, k) array
            W.

        Returns
        -------
        (m, d) array
            A lazy Dask array where X is a Zarr or a Dask array.
        """
        check_is_fitted(self)
        X = content(X)
        with own_state():
            return (as_dask(X) if module(X) == "zarr" else X) @ self.components_

    def _factorize(self, X: Any, given: Any, W: Any, H: Any, weights: Any, out: Any) -> Result:
        # Of a subclass too, which may name some of them in its own __init__ only.
        check_parameters({name: getattr(self, name) for name in NMF._get_param_names()})
        V, dtype = checked_input(self, X, given, weights, True, self._executor(X))
        k, init, init_W = start_of(self, V.shape, np.dtype(dtype), W, rows_in_order(V, H))
        with shown(self.verbose) as listener:
            fitted = api.fit(
                V,
                k,
                fixed_H=self.fixed_H,
                out=out,
                seed=seed_of(self.random_state),
                init=init,
                init_W=init_W,
                keep_order=self.init == "custom",
                n_init=self.n_init,
                solver=solver_of(self.solver),
                alpha_H=self.alpha_H,
                tol=float(self.tol),
                max_passes=self.max_iter,
                on_event=listener,
                **self._arguments(X, weights, dtype),
            )
        self.components_ = np.ascontiguousarray(fitted.H)
        self.n_components_ = k
        self.n_iter_ = fitted.passes
        last = [row for row in fitted.history if row["accepted"]][-1]
        self.reconstruction_err_ = float(np.sqrt(2.0 * last["divergence"]))
        self.stop_reason_ = fitted.stop_reason
        self.history_ = fitted.history
        warn_if_unfinished(self)
        warn_if_open(fitted)
        return fitted

    def _arguments(self, X: Any, weights: Any, dtype: str) -> dict[str, Any]:
        """Return what `dnmf.fit` and `dnmf.transform` are both given."""
        return {
            "weights": weight_matrix(weights),
            "overwrite": self.overwrite,
            "dtype": dtype,
            "block_size": self.block_size,
            "loss": self.beta_loss,
            "alpha_W": self.alpha_W,
            "l1_ratio": self.l1_ratio,
            "missing": self.missing,
            "missing_chunks": self.missing_chunks,
            "clip": self.clip,
            "executor": self._executor(X),
        }

    def _executor(self, X: Any) -> Any:
        """Choose where to compute: on X in memory this process works unless a client was given."""
        if self.client is None and not is_stored(X):
            return Threads()
        return api.choose_executor(self.client, None)

    def _place(self, X: Any, out: Any, keep: bool) -> AbstractContextManager[Any]:
        """Give the path of the result: stored X that this process works on always needs one."""
        needed = is_stored(X) and self._executor(X).in_process
        return place(out, needed=needed, keep=keep)

    def _hand_back(self, W: Any, X: Any) -> Any:
        """Return W as the caller of X expects it: NumPy, a Dask array or a Zarr array."""
        own = getattr(self, "_sklearn_output_config", {})
        asked = own.get("transform", get_config()["transform_output"])
        if not is_stored(X) or asked != "default":  # a data frame is in memory
            return np.ascontiguousarray(W)
        return as_dask(W) if module(X) == "dask" else W

    @property
    def _n_features_out(self) -> int:
        return int(self.components_.shape[0])

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.positive_only = True
        tags.input_tags.allow_nan = self.missing == "nan"
        tags.input_tags.sparse = self.missing != "nan"  # entries that are not stored are zeros
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    def __sklearn_clone__(self) -> NMF:
        """Make a clone that shares the connection, which cannot be copied."""
        values = self.get_params(deep=False)
        shared = {"client": values.pop("client")} if "client" in values else {}
        copies = {name: clone(value, safe=False) for name, value in values.items()}
        copy = type(self)(**copies, **shared)
        for name in ("_sklearn_output_config", "_metadata_request"):
            if hasattr(self, name):
                setattr(copy, name, deepcopy(getattr(self, name)))
        return copy

    def __getstate__(self) -> dict[str, Any]:
        """Leave the connection out, which only this process has."""
        return {**super().__getstate__(), "client": None}
