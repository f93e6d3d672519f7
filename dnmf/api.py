"""Public functions of `import dnmf`: fit, resume, transform, plan, open."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from dnmf.config import Resources
from dnmf.errors import OpenRowsWarning, OptionError
from dnmf.executors.choose import choose_executor
from dnmf.launch.begin import begin
from dnmf.launch.columns import with_columns_in_order
from dnmf.launch.data import matrix, plan_report
from dnmf.launch.request import Request
from dnmf.launch.resume import go_on, planned_run, to_resume
from dnmf.launch.transform import NEW_ROWS, transformed, warn_of_open_rows
from dnmf.linalg.own_state import own_state
from dnmf.options import OPTION_NAMES, asked, merge_aliases
from dnmf.planning.report import PlanReport
from dnmf.results.models import Models, is_batch
from dnmf.results.opening import open_result
from dnmf.results.result import Result
from dnmf.steps.events import Listener, ignore
from dnmf.steps.work import Executor
from dnmf.study.study import Study

__all__ = ["choose_executor", "fit", "open", "plan", "resume", "transform"]


@own_state()
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
    rounds: int | None = None,
    loss: str | float | None = None,
    beta: float | None = None,
    solver: str | None = None,
    alpha_W: float = 0.0,
    alpha_H: float | str = "same",
    l1_ratio: float = 0.0,
    missing: str | None = None,
    clip: float = 0.0,
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
        Number of components.
    out : path, optional
        Where the run and then the result lives. Needed on a cluster; without it, W and H stay
        in this process and nothing can be resumed.
    client : distributed.Client, optional
        The cluster. By default the active client if there is one, else this process works.
    seed : int, optional
        Seed of the random starts; None draws one, which is recorded.
    init : {"random", "nndsvd", "nndsvda", "nndsvdar"} or (k, d) array
        The start of H: at random, from singular vectors of the sample (NNDSVD), or as given.
        Components of the result are sorted by falling share of V, but see ``keep_order``.
    tol : float, default 1e-4
        The fit stops when the decrease that is still to be expected is at most ``tol`` times the
        objective, or what is explained (what the column means leave, less the objective) if less.
    max_passes : int, default 200
        Most passes over V; each reads it once. The scan, which comes before, is not counted.
    max_time : float, optional
        Seconds after which no further pass over V starts. The first pass is always made. A fit
        that ends this way has what an undisturbed one has after as many passes.
    dtype : {"float32", "float64"}, optional
        Type to compute in; by default float32 for V of float32 and smaller types, else float64.
    block_size : int or str, default "32MiB"
        Bytes of V that are decoded at once.
    max_block : int or str, default "256MiB"
        Bytes that the smallest readable block may take.
    segments : int, optional
        Number of tasks that a pass is cut into; by default by the size of V. Like ``block_size``,
        ``fan_in`` and ``slab_size`` it decides the order of additions, and so the last bits.
    fan_in : int, default 4
        How many partial sums are added at once.
    slab_size : int or str, default "16MiB"
        Bytes of the columns of a sum that one task adds.
    missing_chunks : {"auto", "fill", "error"}
        Whether chunks that are not stored, of V, weights and starts, count as the fill value, or
        are an error. "auto" accepts them where those that are stored make so many zeros likely.
        Behind Dask, what tasks read of Zarr arrays is seen, but nothing of persisted arrays.
    sample : float, default 0.2
        Share of the rows that the first read keeps in memory. Starts are compared on it, and the
        best is fitted to it, before the first pass over V; 0 works without a sample.
    sample_bytes : int or str, default "1GiB"
        Most bytes of the sample.
    n_init : int, default 2
        Random starts that are compared on the sample, each of which first fits half as many
        components again and merges them; the best goes on. One from singular vectors joins them.
        With 1 a small V is fitted from one plain start (for beta < 1 this one searches, too).
    rounds : int, optional
        Most rounds between two reads, for least squares without missing entries: W and H
        alternate on a compressed V that the last read left, and the next read decides by the exact
        objective. 0 for none; by default 60, or none where rounds are dearer than reads.
    loss : {"frobenius", "kullback-leibler", "itakura-saito"} or float, default "frobenius"
        The divergence, or beta of any other one, with scikit-learn's definitions.
    beta : float, optional
        Instead of ``loss``; with both, they must agree.
    solver : {"hals", "mu"}, optional
        By default the loss's own; "mu" is Lee and Seung's multiplicative rules.
    alpha_W : float, default 0
        Strength of the penalty of W, with scikit-learn's meaning: d alpha_W (l1_ratio sum(W) +
        (1 - l1_ratio) / 2 |W|^2).
    alpha_H : float or "same", default "same"
        Strength of the penalty of H, which is multiplied by n instead of d; "same" is ``alpha_W``.
    l1_ratio : float, default 0
        Share of the l1 norm in both penalties.
    missing : {"nan", "zeros"}, optional
        Which entries of V are unobserved: NaN, or what a sparse V does not store (in BSR and DIA
        no zero that is stored counts: it is padding). For least squares and Kullback-Leibler.
    clip : float, default 0
        Negative entries of V from -clip on count as 0; how many is told.
    weights : as V, optional
        A matrix of V's shape, in any chunks, with a weight of 0 or more for every entry, by which
        its loss is multiplied. An entry of weight 0 is not observed, whatever V has there, NaN
        too. For measurements with uncertainties sigma give 1 / sigma^2. For least squares and
        Kullback-Leibler. A pass reads V and the weights once.
    fixed_H : (r, d) array, optional
        Rows of H that are known and stay as they are, r < k: they are the first r components of
        the result, in this order and scale. The others are learned beside them. A DataFrame or
        DataArray (``init`` too) whose columns have the names of V's may have another order.
    normalize : {"components", "weights"}, optional
        Scale rows of H, or columns of W, of the result to unit norm (least squares) or unit sum
        (other losses), and the other factor so that the product is the same. Penalties depend on
        scale: the objective that is reported is that of the pair before.
    strict_bits : bool
        Refuse workers whose processors or libraries round differently; by default the result
        says so.
    overwrite : bool
        Replace ``out`` if dnmf made it.
    resume : bool
        Go on with the run at ``out`` if there is one (same data and options), else begin it; not
        together with ``overwrite``.
    executor : Executor, optional
        Instead of ``client``. With neither, and no active client, this process works: on V in
        its memory with several threads, see ``dnmf.executors.threads.Threads``.
    on_event : callable, optional
        Called with each event of `dnmf.steps.events`. On a cluster `Progress` comes on the
        client's event loop: do not ask the client for anything there. What it raises ends the fit.
    n_components, max_iter, random_state : int, optional
        scikit-learn's names of ``k``, ``max_passes`` and ``seed``.
    init_W : (n, k) array, optional
        Start of W for the first pass, beside an array ``init``.
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
        The cluster is gone, or storage failed (`StorageError`); the message says how to go on.

    Warns
    -----
    OpenRowsWarning
        As for `transform`, in float32.
    """
    arguments = dict(locals())  # before anything else is local
    options = merge_aliases({name: arguments[name] for name in OPTION_NAMES})
    begun = to_resume(out, overwrite, resume)
    if begun is not None and options["seed"] is None:  # the one that was drawn when it began
        options["seed"] = planned_run(begun).config.models[0].seed
    work, listen = choose_executor(client, executor), on_event or ignore
    V, options = with_columns_in_order(V, options, work.dask_client)
    config, given = asked(options)
    request = Request(V, weights, config, given, "fit", out, overwrite, resume, on_event=listen)
    result = go_on(begun, work, listen, max_time, request) if begun else begin(request, work)
    warn_of_open_rows(result, OpenRowsWarning, 3, on_event)
    return result


@own_state()
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
    missing_chunks: str | None = None,
    loss: str | float | None = None,
    beta: float | None = None,
    alpha_W: float | None = None,
    l1_ratio: float | None = None,
    missing: str | None = None,
    clip: float | None = None,
    weights: Any = None,
    executor: Executor | None = None,
    on_event: Listener | None = None,
) -> Any:
    """Compute W of new rows: minimise the loss over W >= 0 at the H of a fit, in one read of V.

    For an array H the default is least squares without penalty. With a penalty, H must have the
    scale of the fit: for one that ``normalize`` rescaled, give ``alpha_W``.

    Parameters
    ----------
    V : as for `fit`
        The new rows (m, d), with the columns of the fit. Where V and the fit have names of
        columns, these decide, in whatever order V has them, and other names are refused.
    fit : Result, path of a result, or (k, d) array H
        Whose H to use.
    out : path, optional
        Where a Zarr group with ``W`` is written; needed on a cluster.
    client : distributed.Client, optional
        The cluster, as for `fit`.
    overwrite : bool
        Replace ``out`` if dnmf made it.
    dtype, block_size, max_block, missing_chunks : optional
        How to read and compute, as for `fit`.
    loss, beta, alpha_W, l1_ratio, missing, clip : optional
        What to minimise, as for `fit`; by default what the fit did.
    weights : as V, optional
        Weights of the entries of these rows; without them every entry weighs 1.
    executor, on_event : optional
        As for `fit`.

    Returns
    -------
    (m, k) array-like
        NumPy without ``out``, else a lazy Zarr array.

    Warns
    -----
    OpenRowsWarning
        Rows of W are not solved (`Result.open_rows`). Listeners are told by a `Notice` instead.
    """
    arguments = dict(locals())  # before anything else is local
    fit = open(fit) if isinstance(fit, (str, os.PathLike)) else fit
    if isinstance(fit, Study):
        raise OptionError(
            f"fit is a study of k = {', '.join(map(str, fit.ks))}, with a result for each: give "
            f"one, such as study.result({fit.ks[0]})"
        )
    work, options = choose_executor(client, executor), {x: arguments[x] for x in NEW_ROWS}
    result = transformed(V, fit, work, options, out, overwrite, on_event)
    warn_of_open_rows(result, OpenRowsWarning, 3, on_event)
    return result.W


@own_state()
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
    client : distributed.Client, optional
        The cluster, as for `fit`. Another number of workers, or none, gives the same bits.
    max_time : float, optional
        Seconds after which no further pass starts, instead of those that it began with.
    executor, on_event : optional
        As for `fit`.

    Returns
    -------
    Result or Study
        What the run was begun for; of a transform, a result that has its W.

    Raises
    ------
    InputError, RunError
        V changed since the run began, or the run is damaged or none.
    ResumableError
        It was interrupted again; the message says how to go on.
    """
    found = go_on(path, choose_executor(client, executor), on_event or ignore, max_time)
    warn_of_open_rows(found, OpenRowsWarning, 3, on_event)
    return Study(found) if isinstance(found, Models) else found


@own_state()
def open(path: str | os.PathLike[str]) -> Any:
    """Open a result or a study, or what is committed of a run in progress.

    Parameters
    ----------
    path : path or URL
        The run folder, ``out`` of what made it.

    Returns
    -------
    Result or Study
        What is there, which loads W and H when they are asked for.

    Raises
    ------
    RunError
        There is no run of dnmf, or it is damaged.
    """
    return Study.open(path) if is_batch(path) else open_result(path)


@own_state()
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
    V : as for `fit`
        The matrix; none of its entries is read, but the stored ones of lazy CSR are counted.
    k : int
        Number of components.
    resources : Resources, optional
        What it would run on; by default those of ``client``, else of this process.
    client : distributed.Client, optional
        The cluster, as for `fit`.
    init : as for `fit`
        The start of H.
    **options
        Other options of `fit`.

    Returns
    -------
    PlanReport
        The plan; ``lines()`` and ``to_json()`` show it.

    Raises
    ------
    MemoryPlanError
        The fit could not run in the memory of a worker.
    """
    unknown = sorted(set(options) - set(OPTION_NAMES))
    if unknown:
        raise OptionError(f"plan has no option {', '.join(unknown)}")
    V, values = with_columns_in_order(V, merge_aliases({"k": k, "init": init, **options}), client)
    config, _ = asked({**values, "seed": values.get("seed") or 0})
    source = matrix(V, values.get("weights"), config.missing)
    return plan_report(source, config, choose_executor(client, None), resources)
