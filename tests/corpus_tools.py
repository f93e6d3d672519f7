"""Cases of the corpus of damaged stores: make one, run it, judge what came of it."""

from __future__ import annotations

import random
import shutil
import traceback
import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from corpus_layouts import CONVERTED, LAYOUTS, SPARSE, stored

import dnmf
from dnmf.errors import DnmfError
from dnmf.steps.events import Committed
from dnmf.steps.serial import Serial
from dnmf.testing.damage import damage, damage_arrays

OPTIONS: dict[str, Any] = {
    "k": 2,
    "seed": 1,
    "tol": 0,
    "max_passes": 2,
    "sample": 0,
    "fan_in": 2,
    "block_size": 800,  # 6 blocks
}


@dataclass
class Verdict:
    """What came of cases: counts, and those that must not be."""

    cases: int = 0
    refused: int = 0
    right: int = 0
    failures: list[str] = field(default_factory=list)

    def add(self, other: Verdict) -> None:
        self.cases += other.cases
        self.refused += other.refused
        self.right += other.right
        self.failures += other.failures


def judge(what: str, run: Callable[[], Any], right: Callable[[Any], str | None]) -> Verdict:
    """Run one case: a dnmf error of exit code 2, or an answer that ``right`` finds right."""
    verdict = Verdict(cases=1)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            warnings.filterwarnings("ignore", module="zarr")
            found = run()
    except DnmfError as error:
        verdict.refused = 1
        if error.exit_code != 2 or len(str(error)) < 20:
            said = f"{type(error).__name__} {error.exit_code}: {error}"
            verdict.failures.append(f"{what}\n    {said}")
        return verdict
    except Exception:
        verdict.failures.append(f"{what}\n{traceback.format_exc(limit=-3, chain=False)}")
        return verdict
    wrong = right(found)
    if wrong is None:
        verdict.right = 1
    else:
        verdict.failures.append(f"{what}\n    wrong answer: {wrong}")
    return verdict


@dataclass(frozen=True)
class Answer:
    """W, H and the objective."""

    W: np.ndarray
    H: np.ndarray
    objective: float

    @classmethod
    def of(cls, result: Any) -> Answer:
        return cls(np.asarray(result.W[:]), np.asarray(result.H[:]), result.objective)

    def same(self, other: Answer) -> bool:
        return (
            self.objective == other.objective
            and np.array_equal(self.W, other.W)
            and np.array_equal(self.H, other.H)
        )


def against(V: Callable[[], np.ndarray], undamaged: Answer) -> Callable[[Answer], str | None]:
    """The undamaged answer, or one whose objective is that of W and H for what is stored."""

    def right(found: Answer) -> str | None:
        if found.same(undamaged):
            return None
        try:
            now = V()
        except Exception as error:
            return f"an answer, though V cannot be read ({type(error).__name__}: {error})"
        shape = (found.W.shape[0], found.H.shape[1])
        if shape != now.shape:
            return f"it is {shape}, V is {now.shape}"
        true = 0.5 * float(np.sum((now - found.W.astype(float) @ found.H.astype(float)) ** 2))
        if abs(true - found.objective) > 1e-4 * true + 1e-6 * float(np.sum(now**2)):
            return f"objective {found.objective}, should be {true}"
        return None

    return right


def only(undamaged: Answer) -> Callable[[Answer], str | None]:
    return lambda found: None if found.same(undamaged) else "other than the undamaged answer"


def fitted(path: Path, **options: Any) -> Answer:
    return Answer.of(dnmf.fit(path, executor=Serial(2 << 30), **{**OPTIONS, **options}))


def converted(path: Path, folder: Path) -> Answer:
    """A fit of what `dnmf.convert` makes of it."""
    shutil.rmtree(folder / "converted.zarr", ignore_errors=True)
    target = folder / "converted.zarr"
    dnmf.convert(path, target, memory="2GiB", executor=Serial(2 << 30))
    return fitted(target)


@cache
def _pristine(layout: str, root: Path) -> Path:
    path = root / layout / LAYOUTS[layout][0]
    path.parent.mkdir(parents=True)
    LAYOUTS[layout][1](path)
    return path


@cache
def _undamaged(layout: str, root: Path) -> Answer:
    path = _pristine(layout, root)
    if layout in CONVERTED:
        return converted(path, root / layout)
    return fitted(path)


def fresh(source: Path, target: Path) -> Path:
    """A copy in place of what was there."""
    if target.is_dir():
        shutil.rmtree(target)
    else:
        target.unlink(missing_ok=True)
    if source.is_dir():
        shutil.copytree(source, target)
    else:
        shutil.copyfile(source, target)
    return target


def before_the_fit(layout: str, seed: int, root: Path) -> Verdict:
    """The store is damaged, then fitted (or converted)."""
    undamaged, pristine = _undamaged(layout, root), _pristine(layout, root)
    path = fresh(pristine, root / f"case-{pristine.name}")
    rng = random.Random(f"{layout} {seed}")
    how = damage_arrays if layout in SPARSE and rng.random() < 0.4 else damage
    text = f"{layout} {seed}: {how(path, rng)}"
    right = against(lambda: stored(layout, path), undamaged)
    if layout in CONVERTED:
        return judge(text, lambda: converted(path, root), right)
    return judge(text, lambda: fitted(path), right)


def during_the_fit(layout: str, seed: int, root: Path) -> Verdict:
    """The store is damaged after the scan, or after the first pass."""
    undamaged, pristine = _undamaged(layout, root), _pristine(layout, root)
    path = fresh(pristine, root / f"case-{pristine.name}")
    rng = random.Random(f"during {layout} {seed}")
    when, texts = rng.choice(("scan", "pass")), [f"{layout} {seed}"]

    def harm(event: Any) -> None:
        if isinstance(event, Committed) and event.kind == when and len(texts) == 1:
            texts.append(f"after the {when}: {damage(path, rng)}")

    verdict = judge("", lambda: fitted(path, on_event=harm), only(undamaged))
    verdict.failures = [" ".join(texts) + failure for failure in verdict.failures]
    return verdict


class InterruptedRunError(Exception):
    """Stands for whatever ends a process."""


def _stop_after(kind: str) -> Callable[[Any], None]:
    def stop(event: Any) -> None:
        if isinstance(event, Committed) and event.kind == kind:
            raise InterruptedRunError

    return stop


@cache
def _run(root: Path) -> tuple[Path, Answer]:
    """A run that was interrupted after its first pass, and the answer of one that was not."""
    V = _pristine("zarr", root)
    whole = fitted(V, out=root / "whole")
    with suppress(InterruptedRunError):
        fitted(V, out=root / "run", on_event=_stop_after("pass"))
    return root / "run", whole


def _resumed(out: Path) -> Answer:
    dnmf.open(out).inspect()
    return Answer.of(dnmf.resume(out, executor=Serial(2 << 30)))


def of_a_run(layout: str, seed: int, root: Path) -> Verdict:
    """A run that was interrupted after its first pass is damaged, then resumed."""
    pristine, whole = _run(root)
    out = fresh(pristine, root / "case-run")
    rng = random.Random(f"run {seed}")
    text = f"run {seed}: {damage(out, rng, skip=lambda path: path.name == 'lock.json')}"
    return judge(text, lambda: _resumed(out), only(whole))


def of_a_result(layout: str, seed: int, root: Path) -> Verdict:
    """A finished result is damaged, then read, and new rows are transformed with it."""
    _, whole = _run(root)
    transformed, said = _transformed(root / "whole", root), _said(root / "whole")
    out = fresh(root / "whole", root / "case-result")
    rng = random.Random(f"result {seed}")
    text = f"result {seed}: {damage(out, rng, skip=lambda path: '.dnmf' in path.parts)}"

    def other_words(found: Answer) -> str | None:
        return only(whole)(found) or (None if _said(out) == said else "says something else")

    verdict = judge(text, lambda: Answer.of(dnmf.open(out)), other_words)
    again = judge(f"transform {text}", lambda: _transformed(out, root), _equal_to(transformed))
    verdict.add(again)
    return verdict


def _said(out: Path) -> dict[str, Any]:
    return {**dnmf.open(out).inspect(), "path": None}


def _equal_to(expected: np.ndarray) -> Callable[[np.ndarray], str | None]:
    return lambda found: None if np.array_equal(found, expected) else "another W"


def _transformed(result: Path, root: Path) -> np.ndarray:
    return np.asarray(dnmf.transform(_pristine("zarr", root), result, executor=Serial(2 << 30)))
