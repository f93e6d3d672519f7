"""fit, resume, transform, plan, open: what `import dnmf` offers."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from dnmf.config import FitConfig, Resources
from dnmf.conversion.job import convert
from dnmf.errors import OptionError
from dnmf.executors.choose import choose_executor
from dnmf.launch import begin, go_on, matrix, offered, planned_run, to_resume
from dnmf.options import (
    OPTION_NAMES,
    fit_config,
    given_fixed,
    given_start,
    given_W,
    merge_aliases,
)
from dnmf.planning.memory import check_memory
from dnmf.planning.plan import make_plan
from dnmf.planning.report import PlanReport
from dnmf.results.models import Models, is_batch
from dnmf.results.result import Result
from dnmf.steps.events import Listener
from dnmf.steps.work import Executor
from dnmf.study.study import Study

__all__ = ["choose_executor", "convert", "fit", "open", "plan", "resume", "transform"]


def fit(
    V: Any,
    k: int | None = None,
    *,
    out: str | os.PathLike[str] | None = None,
    client: Any = None,
    seed: int | None = None,
    init: Any = "random",
    tol: float | None = None,
    max_passes: int | None = None,
    max_time: float | None = None,
    dtype: Any = None,
    block_size: int | str | None = None,
    max_block: int | str | None = None,
    segments: int | None = None,
    fan_in: int | None = None,
    slab_size: int | str | None = None,
    missing_chunks: str | None = None,
    sample: float | None = None,
    sample_bytes: int | str | None = None,
    n_init: int | None = None,
    loss: str | float | None = None,
    beta: float | None = None,
    solver: str | None = None,
    alpha_W: float = 0.0,
    alpha_H: float | str = "same",
    l1_ratio: float = 0.0,
    missing: str | None = None,
    weights: Any = None,
    fixed_H: Any = None,
    normalize: str | None = None,
    strict_bits: bool = False,
    overwrite: bool = False,
    resume: bool = False,
    executor: Executor | None = None,
    on_event: Listener | None = None,
    n_components: int | None = None,
    max_iter: int | None = None,
    random_state: int | None = None,
    init_W: np.ndarray | None = None,
    keep_order: bool = False,
) -> Result:
    """Factorize V (n x d) into W (n x k) times H (k x d), all entries 0 or more.

    Minimises a divergence of V and W H, by default 1/2 |V - W H|^2 (least squares), plus
    penalties. Every pass reads V once.

    Parameters
    ----------
    V : path, URL, zarr.Array, zarr.Group, numpy array, scipy CSR, dask.array or Source
        The matrix; see the README for what can be read. Never modified.
    k : int
        Number of components. ``n_components`` is another name.
    out : path, optional
        Where the run and then the result lives. Needed on a cluster; without it, W and H stay
        in this process and nothing can be resumed.
    client : distributed.Client, optional
        The cluster. By default the active client if there is one, else this process works.
    seed : int, optional
        Of the random start; None draws one (it is recorded). ``random_state`` is another name.
    init : {"random", "nndsvd", "nndsvda", "nndsvdar"} or (k, d) array
        The start of H; NNDSVD takes singular vectors of (a part of) the sample. Whatever the start,
        components of the result are sorted by falling share of V, but see ``keep_order``.
    tol : float, default 1e-4
        Stop when the decrease still to be expected is at most ``tol`` times the objective.
    max_passes : int, default 200
        Most reads of V after the scan. ``max_iter`` is another name.
    max_time : float, optional
        Seconds after which no further pass over V starts but the first one, to which the passes
        over the sample lead: what there is then is what an undisturbed fit has at that point.
    dtype : {"float32", "float64"}, optional
        To compute in; by default float32 for V of float32 and smaller types, else float64.
    block_size : int or str, default "32MiB"
        Bytes of V that are decoded at once.
    max_block : int or str, default "256MiB"
        Bytes that the smallest readable block may take.
    segments, fan_in, slab_size : int, optional
        Granularity of scheduling and of sums; part of the layout that decides the bits.
    missing_chunks : {"auto", "fill", "error"}
        Whether chunks that are not stored count as fill value.
    sample : float, default 0.2
        Share of the rows that the scan keeps as a resident sample, on which starts race and H
        is fitted before the first pass over V; 0 works without.
    sample_bytes : int or str, default "1GiB"
        Most bytes of the sample.
    n_init : int, default 2
        Random starts that search on a part of the sample, each beginning with half as many
        components again; the best goes on. With 1 a small V is fitted from one plain start, but for
        beta < 1, where one start searches too.
    loss : {"frobenius", "kullback-leibler", "itakura-saito"} or float, default "frobenius"
        The divergence, or beta of any other one, with scikit-learn's definitions.
    beta : float, optional
        Instead of ``loss``; with both, they must agree.
    solver : {"hals", "mu"}, optional
        By default the loss's own; "mu" is Lee and Seung's multiplicative rules.
    alpha_W, alpha_H, l1_ratio : float
        Penalties with scikit-learn's meaning: d alpha_W (l1_ratio sum(W) + (1 - l1_ratio) / 2
        |W|^2), and n alpha_H of H likewise; ``alpha_H="same"`` is ``alpha_W``.
    missing : {"nan", "zeros"}, optional
        Which entries of V are unobserved: NaN, or what a sparse V does not store. For least
        squares and Kullback-Leibler.
    weights : as V, optional
        A matrix of V's shape, in any chunks, of weights m >= 0 of the entries: the loss is the
        sum of m times each entry's. 0 is unobserved, whatever V has there, NaN too. For
        measurements with uncertainties sigma give 1 / sigma^2. For least squares and
        Kullback-Leibler. A pass reads V and the weights once.
    fixed_H : (r, d) array, optional
        Rows of H that are held as given, r < k: they are the first r components of the result, in
        this order and scale, while the others are learned beside them.
    normalize : {"components", "weights"}, optional
        Scale rows of H, or columns of W, of the result to unit norm (least squares) or unit sum
        (other losses), and the other factor so that the product is the same. Penalties depend on
        scale: the objective that is reported is that of the pair before.
    strict_bits : bool
        Refuse processors or libraries that round differently, instead of saying so.
    overwrite : bool
        Replace ``out`` if dnmf made it.
    resume : bool
        Go on with the run at ``out`` if there is one (same data and options), else begin it; not
        together with ``overwrite``.
    executor : Executor, optional
        Instead of ``client``. With neither, and no active client, this process works: on V in
        its memory with several threads, see ``dnmf.executors.threads.Threads``.
    on_event : callable, optional
        Receives `dnmf.steps.events`. On a cluster `Progress` comes on the client's event loop:
        do not ask the client for anything there. What it raises ends the fit.
    init_W : (n, k) array, optional
        Warm start of W for the first pass, with an array ``init``.
    keep_order : bool
        Components of the result keep the order of an array ``init``, instead of being sorted.

    Returns
    -------
    Result
        ``.W`` and ``.H`` are array-like: lazy where the result is on storage.

    Raises
    ------
    InputError, OptionError, OutputExistsError
        Something given cannot be used; nothing is left behind.
    MemoryPlanError
        The fit cannot run in the memory of a worker.
    ResumableError
        The cluster is gone, or the run's storage failed (a `StorageError`); the message says how
        to go on.
    """
    arguments = dict(locals())  # before anything else is local
    options = merge_aliases({name: arguments[name] for name in OPTION_NAMES})
    H, name, options["k"] = given_start(init, options["k"])
    W = given_W(init_W, H)
    begun = to_resume(out, overwrite, resume)
    if begun is not None and options["seed"] is None:  # the one that was drawn when it began
        options["seed"] = planned_run(begun).config.models[0].seed
    fixed, said = given_fixed(fixed_H)
    config = fit_config({**options, **said}, name)
    work = choose_executor(client, executor)
    if begun is not None:
        return go_on(begun, work, on_event, max_time, V, config, weights, (H, W, fixed))
    data = (V, weights)
    return begin(data, config, "fit", work, out, overwrite, on_event, H, W, fixed, resume=resume)


def transform(
    V: Any,
    fit: Any,
    *,
    out: str | os.PathLike[str] | None = None,
    client: Any = None,
    overwrite: bool = False,
    dtype: Any = None,
    block_size: int | str | None = None,
    max_block: int | str | None = None,
    loss: str | float | None = None,
    beta: float | None = None,
    alpha_W: float | None = None,
    l1_ratio: float | None = None,
    missing: str | None = None,
    weights: Any = None,
    executor: Executor | None = None,
    on_event: Listener | None = None,
) -> Any:
    """W of new rows: minimise the loss over W >= 0 at the H of a fit, in one read of V.

    Parameters
    ----------
    V : as for `fit`
        (m, d): the fit's columns.
    fit : Result, path of a result, or (k, d) array H
    out : path, optional
        Writes a Zarr group with ``W`` there; needed on a cluster.
    client, executor, overwrite, on_event : as for `fit`
    dtype, block_size, max_block : as for `fit`
    loss, beta, alpha_W, l1_ratio, missing : as for `fit`
        By default those of the fit; for an array H least squares without penalty. With alpha_W, H
        must have the scale of the fit: one that ``normalize`` rescaled needs alpha_W given.
    weights : as V, optional
        Of the entries of these rows; without them every entry weighs 1.

    Returns
    -------
    (m, k) array-like
        NumPy without ``out``, else a lazy Zarr array.
    """
    if isinstance(fit, (str, os.PathLike)):
        fit = open(fit)
    if isinstance(fit, Study):
        raise OptionError(
            f"fit is a study of k = {', '.join(map(str, fit.ks))}, with a result for each: give "
            f"one, such as study.result({fit.ks[0]})"
        )
    H = np.asarray(fit.H if isinstance(fit, Result) else fit)
    options: dict[str, Any] = {"block_size": block_size, "max_block": max_block, "dtype": dtype}
    asked = {"loss": loss, "beta": beta, "alpha_W": alpha_W, "l1_ratio": l1_ratio}
    asked["missing"] = missing
    options["weights"] = weights
    same = loss is None and beta is None
    learned = fit.config if isinstance(fit, Result) else {}
    for option, value in asked.items():
        inherited = learned.get(option) if same or option not in ("loss", "beta") else None
        options[option] = value if value is not None else inherited
    if alpha_W is None and options["alpha_W"] and learned.get("normalize"):
        raise OptionError(
            f"the fit has alpha_W = {options['alpha_W']:g}, and normalize = "
            f"{learned['normalize']!r} rescaled its H afterwards: for this H the same alpha_W is "
            f"another problem. Fit without normalize, or give alpha_W"
        )
    checked, name, k = _given_H(H)
    config = fit_config({**options, "k": k, "seed": 0}, name)
    work = choose_executor(client, executor)
    kept = (fit.path,) if isinstance(fit, Result) and fit.path else ()
    data, mode = (V, weights), "transform"
    begun = begin(data, config, mode, work, out, overwrite, on_event, checked, None, protect=kept)
    return begun.W


def _given_H(H: np.ndarray) -> tuple[np.ndarray | None, str, int | None]:
    if H.ndim != 2:
        raise OptionError(
            f"fit is {H!r:.60}; it must be a result, its path, or an array H (k x d), such as "
            f"the components_ of a fitted dnmf.NMF"
        )
    return given_start(H, None)


def resume(
    path: str | os.PathLike[str],
    *,
    client: Any = None,
    max_time: float | None = None,
    executor: Executor | None = None,
    on_event: Listener | None = None,
) -> Any:
    """Go on with a run that was interrupted, from its last committed step.

    A finished run is opened and returned as it is.

    Parameters
    ----------
    path : path
        The run folder, ``out`` of what began it.
    client, executor, on_event : as for `fit`
        Another number of workers, or none, gives the same bits.
    max_time : float, optional
        Seconds after which no further pass starts, instead of those that it began with.

    Returns
    -------
    Result or Study
        Or, of a transform, the result that has its W.

    Raises
    ------
    InputError, RunError
        V changed since the run began, or the run is damaged or none.
    ResumableError
        It was interrupted again; the message says how to go on.
    """
    found = go_on(path, choose_executor(client, executor), on_event, max_time, None, None)
    return Study(found) if isinstance(found, Models) else found


def open(path: str | os.PathLike[str]) -> Any:
    """Open a result or a study, or what is committed of a run in progress.

    Parameters
    ----------
    path : path or URL

    Returns
    -------
    Result or Study

    Raises
    ------
    RunError
        There is none, or it is damaged.
    """
    return Study.open(path) if is_batch(path) else Result.open(path)


def plan(
    V: Any,
    k: int | None = None,
    *,
    resources: Resources | None = None,
    client: Any = None,
    init: Any = "random",
    **options: Any,
) -> PlanReport:
    """Lay out a fit without running it: blocks, segments, bytes per read, memory.

    Parameters
    ----------
    V, k, init : as for `fit`
    resources : Resources, optional
        What it would run on; by default those of ``client``, else of this process.
    client : distributed.Client, optional
    **options
        Those of `fit` that decide the layout.

    Returns
    -------
    PlanReport

    Raises
    ------
    MemoryPlanError
        It could not run.
    """
    values = merge_aliases({"k": k, **options})
    values |= given_fixed(values.get("fixed_H"))[1]
    unknown = set(values) - (set(FitConfig.__dataclass_fields__) - {"models"}) - {"k", "seed"}
    if unknown:
        raise OptionError(f"plan has no option {', '.join(sorted(unknown))}")
    _, name, values["k"] = given_start(init, values["k"])
    config = fit_config({"seed": 0, **{n: v for n, v in values.items() if v is not None}}, name)
    source = matrix(V, values.get("weights"), config.missing)
    laid_out, _ = make_plan(source, config)
    there = resources or offered(choose_executor(client, None), laid_out, source)
    return PlanReport(laid_out, there, check_memory(laid_out, there))
