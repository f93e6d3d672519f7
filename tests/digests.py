"""Digests of many small fits, to compare the bits of two versions of dnmf on one machine.

    python tests/digests.py record OUT.json [--only SUBSTRING]
    python tests/digests.py compare A.json B.json [--only SUBSTRING]

Cases named ``NAME@PLACE`` are one fit in several places (in this process alone, with threads, on
workers, or killed and resumed), whose digests must be equal. Exit code 1: a case failed, or places
or files differ; 2: the files are of different machines.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable
from contextlib import ExitStack
from functools import cached_property, partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click
import dask.array as da
import numpy as np
import scipy.io
import scipy.sparse as sp
import threadpoolctl
import zarr
from distributed import Client, LocalCluster

import dnmf
from dnmf.testing import faults

Parts = dict[str, Any]
Options = dict[str, Any]
Table = dict[str, tuple[str, Options]]
Case = Callable[["Bench"], Parts]

N, D, K = 240, 30, 4
BASE: Options = {"k": K, "seed": 1, "tol": 0, "max_passes": 4, "sample": 0, "fan_in": 3}
BASE |= {"block_size": 10 * 64 * 4, "slab_size": 8 * K * 16}  # 24 segments, 2 slabs
WIDE: Options = {"slab_size": 8 * 4 * 80, "max_passes": 3}  # where columns have more sums
MASKED: Options = {**WIDE, "block_size": 10 * D * 12}
PART: Options = {"sample": 0.5, "sample_bytes": N * D * 2}  # half of the rows of float32
ACROSS: Options = {"max_block": 10_000, "block_size": 10_000}  # of tall chunks: by columns
KL, CORETYPE = "kullback-leibler", "OPENBLAS_CORETYPE"
LOSSES: dict[str, Options] = {"ls": {}, "ls-mu": {"solver": "mu"}}
LOSSES |= {"kl": {**WIDE, "loss": KL}, "kl-mu": {**WIDE, "loss": KL, "solver": "mu"}}
LOSSES |= {"is": {**WIDE, "loss": "itakura-saito"}, "beta-0.5": {**WIDE, "loss": 0.5}}
LOSSES |= {"beta-1.5": {**WIDE, "beta": 1.5}, "beta-3": {**WIDE, "loss": 3}}
# name, V, and options besides BASE and those of each loss
VARIANTS: Table = {"plain": ("V", {}), "race": ("V", {**PART, "n_init": 3}), "csr": ("S", {})}
VARIANTS |= {"whole-sample": ("V", {"sample": 0.2}), "columns": ("tall", ACROSS)}
VARIANTS |= {"sample": ("narrow", {**PART, "n_init": 1, "alpha_W": 0.02, "l1_ratio": 1})}
VARIANTS |= {"tol": ("V.npy", {"tol": 1e-3, "max_passes": 50}), "bytes": ("U8", {"fixed_H": "F"})}
VARIANTS |= {"float32": ("V64", {"dtype": "float32", "normalize": "components"})}
VARIANTS |= {"integers": ("I32", {**PART, "normalize": "weights"})}
VARIANTS |= {"penalties": ("V", {"alpha_W": 0.01, "alpha_H": 0.02, "l1_ratio": 0.5})}
VARIANTS |= {"start": ("V64", {"init": "H0", "init_W": "W0", "keep_order": True})}
VARIANTS |= {"start-H": ("V", {"init": "H0", "alpha_H": 0.02})}
VARIANTS |= {"nndsvd": ("V", {**PART, "init": "nndsvd", "fixed_H": "F"})}
VARIANTS |= {"nndsvdar": ("V64", {"sample": 1.0, "init": "nndsvdar"})}
VARIANTS |= {"csr-nndsvda": ("S", {**PART, "init": "nndsvda"})}
VARIANTS |= {"csc": ("csc", {**PART, "block_size": 4000, "normalize": "weights"})}
VARIANTS |= {"columns-start": ("tall", {**ACROSS, "init": "H0", "init_W": "W0", "alpha_W": 0.01})}
# the same for least squares and Kullback-Leibler only
MASKS: Table = {"nan": ("N", {**WIDE, "missing": "nan"})}
MASKS |= {"zeros": ("O", {**MASKED, **PART, "missing": "zeros"})}
MASKS |= {"weights": ("V", {**MASKED, "weights": "M", "sample": 0.5})}
MASKS |= {"weights-of-zeros": ("O", {**MASKED, "missing": "zeros", "weights": "MS"})}
MASKS |= {"weights-sparse": ("V", {**MASKED, "weights": "MS", "alpha_W": 0.01})}
MASKS |= {"weights-columns": ("tall", {**MASKED, "max_block": 20_000, "weights": "M"})}
STUDY: Options = {name: BASE[name] for name in BASE if name not in ("k", "seed")}
STUDY |= {"ks": [2, 3], "seeds": [3, 0], "folds": 2, "slab_size": 8 * 20 * 16, "max_passes": 3}
SPECKLED: Options = {**STUDY, "holdout": "speckled"}
FITS: Table = {"study-bicv": ("V", {**STUDY, **PART, "n_init": 2})}
FITS |= {"study-speckled": ("V", SPECKLED), "study-kl": ("S", {**STUDY, "loss": KL})}
FITS |= {"study-speckled-kl": ("V", {**SPECKLED, **PART, "loss": KL})}
FITS |= {"study-stability": ("V64", {**STUDY, "holdout": None, "tol": 1e-3, "max_passes": 50})}
FITS |= {"study-beta": ("V64", {**STUDY, "holdout": None, "loss": 0.5})}
FITS |= {
    f"{loss}-{name}": (V, {**BASE, **LOSSES[loss], **options})
    for losses, table in ((LOSSES, VARIANTS), (("ls", "kl"), MASKS))
    for loss in losses
    for name, (V, options) in table.items()
    if loss != "is" or V not in ("S", "csc", "I32", "U8")  # which have zeros
}
# in this process alone, with threads and on workers
EVERYWHERE = ["study-bicv", "study-speckled", "ls-plain", "ls-race", "ls-whole-sample", "ls-csr"]
EVERYWHERE += ["ls-columns", "ls-weights", "kl-plain", "kl-race", "kl-penalties", "kl-csr-nndsvda"]
EVERYWHERE += ["ls-nan", "kl-zeros", "kl-mu-plain", "ls-mu-plain", "is-race", "beta-1.5-csr"]
# of what only this process has: there, and on workers, which are given it
MEMORY: Table = {"tol": ("V", {"tol": 1e-4, "max_passes": 99, "sample": 0.2, "block_size": "1MB"})}
MEMORY |= {"race-on-part": ("large", {"sample": 1.0, "n_init": 3, "block_size": "1MB"})}
MEMORY |= {"dask": ("dask", PART), "dask-csr": ("dask-csr", LOSSES["kl"]), "csc": ("SC", PART)}
GIVEN: Table = {"staged-numpy": ("V", PART), "staged-csr-kl": ("S", LOSSES["kl"])}
GIVEN |= {"staged-dask-weights": ("dask", {**MASKED, "weights": "dask-M"})}
GIVEN |= {"held-dask": ("dask", PART), "held-dask-csr": ("dask-csr", {})}
# killed right after the commit of this number, and resumed (on workers where it is even)
KILLED = {"ls-plain": 2, "kl-race": 3, "ls-weights": 1, "study-bicv": 4}
TRANSFORMS: Table = {"ls-integers": ("new", {}), "kl-csr": ("new-S", {}), "kl-nan": ("new-N", {})}
TRANSFORMS |= {"ls-penalties": ("new", {}), "ls-tol": ("new", {"weights": "new-M"})}
TRANSFORMS |= {"beta-3-plain": ("new", {}), "is-plain": ("new-positive", {})}
CONVERSIONS: Table = {"V": ("V", {"chunks": (24, D)}), "S": ("S", {"chunks": 200})}
CONVERSIONS |= {"V-to-csr": ("V", {"to": "csr", "chunks": 300}), "csc": ("csc", {})}
CONVERSIONS |= {"S-to-dense": ("S", {"to": "dense", "dtype": "f4", "chunks": (50, 11)})}
CONVERSIONS |= {"npz": ("S.npz", {"chunks": 200}), "mtx": ("S.mtx", {"chunks": 300})}
ESTIMATORS: Table = {"V64": ("new", {"max_iter": 20, "tol": 0, "init": "nndsvda"})}
ESTIMATORS |= {"V": ("new", {"solver": "mu", "max_iter": 10, "n_init": 2})}
ESTIMATORS |= {"S": ("new-S", {"solver": "auto", "beta_loss": KL, "alpha_W": 1e-3})}
ROW = ("pass", "accepted", "extrapolation", "relative_error", "kkt_W", "kkt_H")
LINE = ("k", "seed", "fold", "objective", "held_out", "passes", "stop_reason")
PLAN = ("shape", "dtype", "axis", "block_starts", "segments", "slabs", "bytes_per_read", "memory")
# what is stored in other chunks, or under another name, than the matrix has
FILES = {"tall": ("V64", (N, 4)), "narrow": ("V", (7, 9)), "M": ("M", (5, 8)), "csc": ("SC", ())}


class Bench:
    """Matrices, places and, once it is asked for, a cluster of 2 workers with 1 thread each."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.folder, self._stack, self._places = folder, stack, 0

    @cached_property
    def matrices(self) -> dict[str, Any]:
        """All matrices by name, in memory."""
        rng = np.random.default_rng(7)
        truth = rng.gamma(0.5, size=(N, K)) @ rng.gamma(0.5, size=(K, D))
        counts = rng.poisson(3 * truth / truth.mean())
        V64 = counts + 0.25
        V, S = V64.astype("f4"), np.where(V64 < 1, 0, V64)
        M = rng.gamma(1.0, size=(N, D)).astype("f4")
        M[rng.random(M.shape) < 0.3] = 0
        holes = np.where(M > 0, V, np.float32("nan"))
        large = rng.gamma(0.5, size=(20_000, 4)) @ rng.gamma(0.5, size=(4, 120))
        sparse = {"S": sp.csr_array(S), "SC": sp.csc_matrix(S), "MS": sp.csr_array(M)}
        sparse |= {"O": sp.csr_array(np.where(M > 0, V, 0)), "new-S": sp.csr_array(S[100:230])}
        dense = {"V": V, "V64": V64, "U8": counts.clip(0, 255).astype("u1"), "M": M, "N": holes}
        dense |= {"I32": counts.astype("i4"), "large": large.astype("f4")}
        dense |= {"H0": rng.gamma(2.0, size=(K, D)), "W0": rng.gamma(2.0, size=(N, K))}
        dense |= {"F": rng.gamma(2.0, size=(1, D)), "new-N": holes[:130], "new-M": M[100:230]}
        dense |= {"new": rng.poisson(V64[:130]).astype("f4"), "new-positive": V64[::-2]}
        lazy = {"dask": da.from_array(V, (10, 16)), "dask-M": da.from_array(M, (50, D))}
        meta = sp.csr_array((0, 0), dtype="f8")
        lazy["dask-csr"] = da.from_array(S, (9, 16)).map_blocks(sp.csr_array, meta=meta)
        return {**dense, **sparse, **lazy}

    def stored(self, name: str) -> str:
        """The path of a matrix, which is written when first asked for."""
        path = str(self.folder / name)
        if os.path.exists(path):
            return path
        source, chunks = FILES.get(name, (name.partition(".")[0], (10, D)))
        V = self.matrices[source]
        if name.endswith(".npy"):
            np.save(path, V)
        elif name.endswith(".npz"):
            sp.save_npz(path, V)
        elif name.endswith(".mtx"):
            scipy.io.mmwrite(path, V.tocoo())
        elif sp.issparse(V):  # as AnnData writes it
            group = zarr.open_group(path, mode="w")
            encoding = {"encoding-type": f"{V.format}_matrix", "encoding-version": "0.1.0"}
            group.attrs.update({**encoding, "shape": list(V.shape)})
            for part, size in (("data", 150), ("indices", 150), ("indptr", len(V.indptr))):
                group.create_array(part, data=getattr(V, part), chunks=(size,))
        else:
            zarr.create_array(path, data=V, chunks=chunks, config={"write_empty_chunks": True})
        return path

    def place(self) -> str:
        """A path where nothing is."""
        self._places += 1
        return str(self.folder / f"out-{self._places}")

    @cached_property
    def client(self) -> Any:
        """Of the cluster; a fit that is not given it does not find it."""
        quiet: Options = {"dashboard_address": ":0", "scheduler_kwargs": {"dashboard": False}}
        cluster = LocalCluster(n_workers=2, threads_per_worker=1, processes=True, **quiet)
        self._stack.enter_context(cluster)
        return self._stack.enter_context(Client(cluster, set_as_default=False))

    def options(self, options: Options, stored: bool) -> Options:
        """Options in which arrays, or paths of weights, are where their names were."""
        names = {key: v for key, v in options.items() if isinstance(v, str) and v in self.matrices}
        found = {key: self.matrices[value] for key, value in names.items()}
        if stored and "weights" in names:
            found["weights"] = self.stored(names["weights"])
        return {**options, **found}


def digest(array: Any) -> str:
    """Of dtype, shape and entries."""
    array = np.ascontiguousarray(array[:])
    head = f"{array.dtype.str} {array.shape} "
    return hashlib.sha256(head.encode() + array.tobytes()).hexdigest()


def exact(value: Any) -> Any:
    """A value for JSON that loses no bit."""
    return float(value).hex() if isinstance(value, (float, np.floating)) else value


def history_parts(rows: list[dict[str, Any]], *final: Any) -> Parts:
    """Objectives, and what else in a history must be the same."""
    decisions = [*([exact(row[name]) for name in ROW] for row in rows), *map(exact, final)]
    return {"objective": [exact(row["objective"]) for row in rows], "decisions": decisions}


def parts_of(found: Any) -> Parts:
    """Digests of a fit, or of all models of a study."""
    if not hasattr(found, "models"):
        final = found.objective, found.relative_error, found.stop_reason
        factors = {"W": digest(found.W), "H": digest(found.H)}
        return {**factors, **history_parts(found.history, *final)}
    each = [parts_of(result) for result in found.results]
    parts = {name: [one[name] for one in each] for name in each[0]}
    parts["models"] = [[exact(line[name]) for name in LINE] for line in found.models]
    return {**parts, "answer": str(found.recommend())}


def fitted(where: str, V: str, options: Options, bench: Bench) -> Parts:
    """A fit, or a study where there are ``ks``.

    Of stored data "here", "serial" (with a folder for the run) or on "workers"; of data in memory
    there ("memory"), with two "threads", or on workers ("given").
    """
    stored = where in ("here", "serial", "workers")
    given = bench.options(options, stored)
    if where in ("workers", "given"):
        given["client"] = bench.client
    if where in ("serial", "workers", "given"):
        given["out"] = bench.place()
    before, seen = threading.active_count(), [0]
    with threadpoolctl.threadpool_limits(2 if where == "threads" else 1):
        function = dnmf.fit_many if "ks" in options else dnmf.fit
        data = bench.stored(V) if stored else bench.matrices[V]
        found = function(data, on_event=lambda _: seen.append(threading.active_count()), **given)
    if where == "threads" and max(seen) <= before:
        raise RuntimeError("it ran without threads: this needs two processors")
    return parts_of(dnmf.open(given["out"]) if "out" in given else found)


def killed(V: str, options: Options, commit: int, bench: Bench) -> Parts:
    """A fit or study whose process is killed after a commit, and that is resumed."""
    run = "import json, sys, dnmf; name, V, out, given = sys.argv[1:]; "
    run += "getattr(dnmf, name)(V, out=out, **json.loads(given))"
    fault = faults.Fault("record-committed", "kill", {"index": commit})
    environ = {**os.environ, "DNMF_FAULTS": faults.plan(bench.place(), [fault])}
    name, out = "fit_many" if "ks" in options else "fit", bench.place()
    given = json.dumps(bench.options(options, stored=True))
    command = [sys.executable, "-c", run, name, bench.stored(V), out, given]
    done = subprocess.run(command, env=environ, capture_output=True, text=True)
    if done.returncode != -signal.SIGKILL or dnmf.open(out).done:
        raise RuntimeError(f"not killed, but ended with {done.returncode}: {done.stderr[-500:]}")
    return parts_of(dnmf.resume(out, client=None if commit % 2 else bench.client))


def transformed(learn: str, new: str, options: Options, workers: bool, bench: Bench) -> Parts:
    """W of new rows, stored and in memory, at the H of one of `FITS`."""
    matrix, given = FITS[learn]
    fit = dnmf.fit(bench.stored(matrix), **bench.options(given, stored=True))
    options = {"block_size": BASE["block_size"], **options}
    there = {"out": bench.place(), "client": bench.client if workers else None}
    W = dnmf.transform(bench.stored(new), fit, **there, **bench.options(options, stored=True))
    memory = dnmf.transform(bench.matrices[new], fit, **bench.options(options, stored=False))
    return {"W": digest(W), "in memory": digest(memory)}


def converted(source: str, options: Options, workers: bool, bench: Bench) -> Parts:
    """Contents and chunks of what a conversion writes."""
    target, client = bench.place(), bench.client if workers else None
    dnmf.convert(bench.stored(source), target, client=client, **options)
    node: Any = zarr.open(target, mode="r")
    arrays = {"array": node} if isinstance(node, zarr.Array) else dict(node.arrays())
    return {name: [digest(array), list(array.chunks)] for name, array in arrays.items()}


def estimated(X: str, new: str, options: Options, bench: Bench) -> Parts:
    """The estimator, of a matrix in memory."""
    model = dnmf.NMF(K, random_state=1, **options)
    W = model.fit_transform(bench.matrices[X])
    factors = {"W": digest(W), "H": digest(model.components_)}
    factors["transform"] = digest(model.transform(bench.matrices[new]))
    return {**factors, **history_parts(model.history_, model.reconstruction_err_)}


def planned(V: str, options: Options, bench: Bench) -> Parts:
    """How one of `FITS` is laid out, and the memory that is predicted."""
    plan = dnmf.plan_many if "ks" in options else dnmf.plan
    report = plan(bench.stored(V), **bench.options(options, stored=True))
    facts = {**report.to_json(), "memory": report.memory.total}
    return {key: facts[key] for key in PLAN}


def cases() -> dict[str, Case]:
    """All cases by name; those that need workers come last."""
    table: dict[str, Case] = {}
    for name, fit in FITS.items():
        several = name in EVERYWHERE
        table[f"{name}@here" if several else name] = partial(fitted, "here", *fit)
        if several and fit[0] not in FILES:  # else they are cut in other blocks in memory
            table[f"{name}@threads"] = partial(fitted, "threads", *fit)
    table |= {f"plan-{name}": partial(planned, *FITS[name]) for name in EVERYWHERE}
    table |= {f"estimator-{V}": partial(estimated, V, *given) for V, given in ESTIMATORS.items()}
    for place, group in {"memory": MEMORY, "given": GIVEN}.items():
        for name, (V, given) in group.items():
            table[f"{place}-{name}"] = partial(fitted, place, V, {**BASE, **given})
    for place, workers in {"serial": False, "workers": True}.items():
        table |= {f"{name}@{place}": partial(fitted, place, *FITS[name]) for name in EVERYWHERE}
        for name, rows in TRANSFORMS.items():
            table[f"transform-{name}@{place}"] = partial(transformed, name, *rows, workers)
        for name, steps in CONVERSIONS.items():
            table[f"convert-{name}@{place}"] = partial(converted, *steps, workers)
    table |= {f"{name}@killed": partial(killed, *FITS[name], KILLED[name]) for name in KILLED}
    late = ("@workers", "@killed", *GIVEN)
    return dict(sorted(table.items(), key=lambda item: item[0].endswith(late)))


def machine() -> dict[str, Any]:
    """What decides the bits besides dnmf."""
    about = Path("/proc/cpuinfo")
    lines = about.read_text().splitlines() if about.exists() else [platform.processor()]
    found: dict[str, Any] = {name: version(name) for name in ("numpy", "scipy", "numba")}
    found["processor"] = next((line for line in lines if line.startswith("model name")), lines[0])
    blas = threadpoolctl.ThreadpoolController().select(user_api="blas").info()
    found["blas"] = sorted({f"{one['version']} {one.get('architecture')}" for one in blas})
    return {**found, CORETYPE: os.environ.get(CORETYPE)}


def record(out: str, only: str) -> list[str]:
    """Run the cases whose names have ``only`` in them; what failed, and places that differ."""
    found: dict[str, Parts] = {}
    with tempfile.TemporaryDirectory(prefix="digests-") as folder, ExitStack() as stack:
        stack.enter_context(warnings.catch_warnings(action="ignore"))  # of too few passes
        bench = Bench(Path(folder), stack)
        for name, case in cases().items():
            if only in name:
                began = time.perf_counter()
                try:
                    found[name] = case(bench)
                except Exception as error:
                    found[name] = {"error": f"{type(error).__name__}: {error}"}
                    click.echo(f"{name}: {error}")
                click.echo(f"{name}: {time.perf_counter() - began:.1f} s")
    Path(out).write_text(json.dumps({"machine": machine(), **found}, indent=1), encoding="utf-8")
    first = {name.partition("@")[0]: name for name in reversed(found)}
    others = {name: first[name.partition("@")[0]] for name in found}
    click.echo(f"{len(found)} cases, {len(first)} names; {dnmf.__file__}")
    return differences({f"{n} and {o}": (found[n], found[o]) for n, o in others.items()})


def compare(one: str, other: str, only: str) -> list[str]:
    """What differs between two files, by name and part."""
    files = [json.loads(Path(path).read_text(encoding="utf-8")) for path in (one, other)]
    machines = [file.pop("machine") for file in files]
    if machines[0] != machines[1]:
        click.echo(f"made on machines that differ: {machines[0]} and {machines[1]}")
        sys.exit(2)
    names = [name for name in {**files[0], **files[1]} if only in name]
    found = differences({n: (files[0].get(n, {}), files[1].get(n, {})) for n in names})
    click.echo(f"{len(names) - len(found)} of {len(names)} are equal")
    return found


def differences(pairs: dict[str, tuple[Parts, Parts]]) -> list[str]:
    """A line for each pair that differs, with the parts; what failed equals nothing."""
    found = []
    for name, (one, other) in pairs.items():
        parts = [p for p in {**one, **other} if p == "error" or one.get(p) != other.get(p)]
        found += [f"{name}: {', '.join(parts)}"] if parts else []
    return found


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("command", choices=["record", "compare"])
    parser.add_argument("files", nargs="+", help="one to record, two to compare")
    parser.add_argument("--only", default="", help="cases with this in their names")
    given = parser.parse_args()
    wrong = (record if given.command == "record" else compare)(*given.files, given.only)
    click.echo("\n".join(wrong), nl=bool(wrong))
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
