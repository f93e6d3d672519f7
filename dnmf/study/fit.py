"""`fit_many`: models of several sizes and seeds in the same reads of V."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import Any

from dnmf.config import FitConfig, ModelSpec, Resources
from dnmf.errors import OptionError
from dnmf.executors.choose import choose_executor
from dnmf.launch.begin import begin
from dnmf.launch.data import matrix, plan_report
from dnmf.launch.request import Request
from dnmf.launch.resume import go_on, to_resume
from dnmf.linalg.own_state import own_state
from dnmf.options import ALIASES, OPTION_NAMES, fit_config
from dnmf.planning.plan import loss_shape
from dnmf.planning.report import PlanReport
from dnmf.steps.events import Listener, ignore
from dnmf.steps.work import Executor
from dnmf.study.study import Study
from dnmf.values import whole_number

__all__ = ["SEEDS", "fit_many", "plan_many", "study_config"]

SEEDS = 5
"""Runs of every k, by default."""

OPTIONS = set(OPTION_NAMES) - {"k", "seed", "init_W", *ALIASES.values()}


@own_state()
def fit_many(
    V: Any,
    ks: int | Iterable[int],
    seeds: int | Iterable[int] = SEEDS,
    *,
    out: str | os.PathLike[str] | None = None,
    client: Any = None,
    holdout: str | None = "bicv",
    folds: int = 5,
    overwrite: bool = False,
    resume: bool = False,
    executor: Executor | None = None,
    on_event: Listener | None = None,
    **options: Any,
) -> Study:
    """Fit models of several numbers of components and several seeds in the same reads of V.

    Every model of the first seed is what a fit of it alone would give: the same starts, the same
    passes, the same rule to stop. Those of other seeds race with random starts alone: the one
    from singular vectors would be nearly the same for each of them. A model that has converged
    leaves the batch. Where the models are too many for the memory of a worker, they go in groups,
    one group's reads after the other's; the plan says so.

    Parameters
    ----------
    V : as for `dnmf.fit`
        The matrix.
    ks : int or iterable of int
        Numbers of components.
    seeds : int or iterable of int
        Seeds of the random starts of every k; a number n means 0 to n - 1.
    out : path, optional
        Where the run and then the study lives. Needed on a cluster.
    client : distributed.Client, optional
        The cluster, as for `dnmf.fit`.
    holdout : {"bicv", "speckled", None}
        ``"bicv"`` adds, for every k, a model per fold that does not see the fold's rows and
        columns, and measures its error where both were left out (bi-cross-validation, Owen and
        Perry 2009). ``"speckled"`` leaves out a tenth of the entries instead, at random, by the
        solvers of missing entries: dearer, as these take every entry by itself. Least squares
        and Kullback-Leibler.
    folds : int
        Into how many parts rows and columns are cut, and how many such models each k gets.
    overwrite : bool
        Replace ``out`` if dnmf made it.
    resume : bool
        Go on with the study at ``out`` if there is one, as for `dnmf.fit`.
    executor : Executor, optional
        Instead of ``client``, as for `dnmf.fit`.
    on_event : callable, optional
        Called with each event, as for `dnmf.fit`.
    **options
        Other options of `dnmf.fit`; ``n_init`` is 2 by default as it is there: with one,
        runs of other seeds often end in poorer optima, which look like other solutions.

    Returns
    -------
    Study
        The results of all models, and what they say together.

    Raises
    ------
    InputError, OptionError, OutputExistsError
        Something given cannot be used; nothing is left behind.
    MemoryPlanError
        Not even one model at a time fits into the memory of a worker.
    ResumableError
        The cluster is gone; the message says how to go on.
    """
    config = study_config(ks, seeds, holdout, folds, options)
    work, listen = choose_executor(client, executor), on_event or ignore
    request = Request(
        V,
        options.get("weights"),
        config,
        out=out,
        overwrite=overwrite,
        resume=resume,
        on_event=listen,
    )
    begun = to_resume(out, overwrite, resume)
    if begun is not None:
        return Study(go_on(begun, work, listen, config.max_time, request))
    return Study(begin(request, work))


@own_state()
def plan_many(
    V: Any,
    ks: int | Iterable[int],
    seeds: int | Iterable[int] = SEEDS,
    *,
    resources: Resources | None = None,
    client: Any = None,
    holdout: str | None = "bicv",
    folds: int = 5,
    **options: Any,
) -> PlanReport:
    """Lay out a study without running it: memory, read groups, reads.

    Parameters
    ----------
    V : as for `dnmf.fit`
        The matrix; none of its entries is read.
    ks, seeds : int or iterable of int
        Numbers of components, and seeds of every k, as for `fit_many`.
    resources : Resources, optional
        What it would run on; by default those of ``client``, else of this process.
    client : distributed.Client, optional
        The cluster, as for `dnmf.fit`.
    holdout : {"bicv", "speckled", None}
        What is left out, as for `fit_many`.
    folds : int
        Into how many parts, as for `fit_many`.
    **options
        Other options of `fit_many`.

    Returns
    -------
    PlanReport
        The plan; ``lines()`` and ``to_json()`` show it.

    Raises
    ------
    MemoryPlanError
        The study could not run in the memory of a worker.
    """
    config = study_config(ks, seeds, holdout, folds, options)
    source = matrix(V, options.get("weights"), config.missing)
    return plan_report(source, config, choose_executor(client, None), resources)


def study_config(
    ks: int | Iterable[int],
    seeds: int | Iterable[int],
    holdout: str | None,
    folds: int,
    options: dict[str, Any],
) -> FitConfig:
    """Make the options of a study: models of all of V by k and seed, then those of the folds."""
    if options.get("fixed_H") is not None:
        raise OptionError(
            "fixed_H was given, but a study compares what its runs learn, and rows that are held "
            "would count as found again by each; give fixed_H to dnmf.fit, one k at a time"
        )
    unknown = sorted(set(options) - OPTIONS)
    if unknown:
        raise OptionError(f"fit_many has no option {', '.join(unknown)}")
    sizes = _numbers(ks, "ks", 1)
    starts = _numbers(range(seeds) if isinstance(seeds, int) else seeds, "seeds", 0)
    init = options.get("init", "random")
    if not isinstance(init, str) or init == "custom":
        raise OptionError("init is an array, but a study has many starts; give the name of one")
    if init in ("nndsvd", "nndsvda") and len(starts) > 1:
        raise OptionError(
            f"init is {init!r}, which is the same start for every seed, but {len(starts)} seeds "
            f"were given: runs would agree for no reason. Give one seed, or init='random'"
        )
    given = {name: value for name, value in options.items() if name not in ("init", "fixed_H")}
    one = fit_config({**given, "k": sizes[0], "seed": starts[0]}, init)
    models = [ModelSpec(k, seed) for k in sizes for seed in starts]
    if holdout is not None:
        _check_holdout(one)
        models += [ModelSpec(k, starts[0], fold) for k in sizes for fold in range(folds)]
    parts = whole_number(folds, "folds", 2)
    return one.replace(models=tuple(models), holdout=holdout, folds=parts, batch=True)


def _check_holdout(config: FitConfig) -> None:
    if loss_shape(config).leaves_out != "bicv":
        what = "missing or weighted entries" if config.masked else f"loss {config.loss!r}"
        what += f" with solver {config.solver!r}" if config.solver else ""
        raise OptionError(
            f"held-out errors are known for least squares and Kullback-Leibler with their own "
            f"solvers and no missing or weighted entries, not for {what}; give holdout=None "
            f"(--holdout none) to study stability alone"
        )


def _numbers(values: int | Iterable[int], name: str, minimum: int) -> list[int]:
    """Check that numbers are whole and distinct; their order stays."""
    listed: Sequence[Any] = [values] if isinstance(values, int) else list(values)
    found = [whole_number(value, name, minimum) for value in listed]
    if not found:
        raise OptionError(f"{name} is empty; give at least one number")
    if len(set(found)) < len(found):
        raise OptionError(f"{name} names {max(found, key=found.count)} twice")
    return found
