"""What a fit, a study or a transform is asked for."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from dnmf.config import FitConfig
from dnmf.fitting.starts.given import Given
from dnmf.steps.events import Listener, ignore

__all__ = ["Request"]

NOTHING = Given()


@dataclass(frozen=True)
class Request:
    """The data, the options and the output of a run.

    Attributes
    ----------
    V, weights : as for `dnmf.fit`
    config : FitConfig
    given : Given
        Arrays to start from.
    mode : str
        ``"fit"`` or ``"transform"``.
    out : path or None
        The run folder; None keeps everything in memory.
    overwrite : bool
        Replace what dnmf wrote at ``out``.
    resume : bool
        Replace at ``out`` what a run left that was killed before it began.
    protected : tuple of str
        Paths that the output may not replace, besides those of the data.
    on_event : Listener
    """

    V: Any
    weights: Any
    config: FitConfig
    given: Given = NOTHING
    mode: str = "fit"
    out: str | os.PathLike[str] | None = None
    overwrite: bool = False
    resume: bool = False
    protected: tuple[str, ...] = ()
    on_event: Listener = ignore
