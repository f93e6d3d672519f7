"""A study that is interrupted goes on like a fit: to the same bits, nothing twice."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

import dnmf
from dnmf.steps.events import Committed, Progress
from dnmf.steps.serial import Serial

OPTIONS: dict[str, Any] = {
    "folds": 2,
    "block_size": "1kB",
    "segments": 24,
    "fan_in": 3,
    "max_passes": 3,
    "tol": 0,
    "sample": 0.3,
    "sample_bytes": "8kB",
}


class Interrupts:
    """As when somebody presses Ctrl-C after some steps, or in the middle of one."""

    def __init__(self, steps: int, within: int | None = None) -> None:
        self.steps, self.within = steps, within

    def __call__(self, event: Any) -> None:
        if isinstance(event, Committed):
            self.steps -= 1
        at = event.done if isinstance(event, Progress) else None
        if self.steps == 0 and at == self.within:
            raise KeyboardInterrupt


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Any]:
    """V, and a study of it that nothing interrupted."""
    folder = tmp_path_factory.mktemp("interrupted")
    rng = np.random.default_rng(0)
    V = rng.poisson(rng.gamma(0.5, size=(240, 3)) @ rng.gamma(0.5, size=(3, 30)) * 5)
    path = str(folder / "V.zarr")
    zarr.create_array(path, data=V.astype("f4"), chunks=(10, 30))
    return path, dnmf.fit_many(path, [2, 3], 2, out=folder / "s", executor=Serial(), **OPTIONS)


@pytest.mark.parametrize("where", [(1, None), (3, None), (-2, 7)], ids=str)
def test_it_goes_on_to_the_same_bits(
    tmp_path: Path, undisturbed: tuple[str, Any], where: tuple[int, int | None]
) -> None:
    path, whole = undisturbed
    steps, within = where
    if steps < 0:  # from the end: in the middle of the last pass
        steps += len(whole.facts["executed"])
    stop = Interrupts(steps, within)
    with pytest.raises(KeyboardInterrupt):
        dnmf.fit_many(
            path, [2, 3], 2, out=tmp_path / "s", on_event=stop, executor=Serial(), **OPTIONS
        )
    begun = dnmf.open(tmp_path / "s")
    assert isinstance(begun, dnmf.Study)
    assert not begun.done
    again = dnmf.resume(tmp_path / "s", executor=Serial())
    assert again.done
    assert again.models == whole.models
    for one, other in zip(whole.results, again.results, strict=True):
        assert one.W[:].tobytes() == other.W[:].tobytes()
        assert one.H[:].tobytes() == other.H[:].tobytes()
    executed = Counter((step, kind) for step, kind, *_ in again.facts["executed"])
    assert set(executed.values()) == {1}
