"""What every benchmark is given: a size, a folder, a voice; and where its figures go."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks import machine
from benchmarks.figures import Figure
from dnmf.errors import OptionError

__all__ = ["SIZES", "Session", "collect", "working_folder"]

SIZES = ("tiny", "quick", "full")


@dataclass(frozen=True)
class Session:
    """One run of one benchmark.

    Attributes
    ----------
    size : str
        One of `SIZES`.
    folder : Path
        Where data and runs go. Data that are there already are used again.
    keep : bool
        Whether data stay when they have been measured.
    console : Console
    """

    size: str
    folder: Path
    keep: bool
    console: Console

    def tell(self, text: str) -> None:
        """A line about what is being done, with the time."""
        self.console.print(f"{datetime.now():%H:%M:%S}  {text}", style="dim", highlight=False)

    def need_room(self, nbytes: float) -> None:
        """Refuse where data would not fit on the disk."""
        free = shutil.disk_usage(self.folder).free
        if nbytes > free:
            raise OptionError(
                f"{self.folder} has {free / 1e9:.3g} GB free, this needs {nbytes / 1e9:.3g} GB; "
                f"name another --folder, or a smaller --size"
            )

    def drop(self, path: Path) -> None:
        """Delete data, unless they are to be kept."""
        if not self.keep:
            shutil.rmtree(path, ignore_errors=True)

    @contextmanager
    def scratch(self, name: str) -> Iterator[Path]:
        """A new folder that is deleted at the end, whatever is kept."""
        path = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=self.folder))
        try:
            yield path
        finally:
            shutil.rmtree(path, ignore_errors=True)


@contextmanager
def working_folder(folder: Path | None) -> Iterator[Path]:
    """The folder given, or a temporary one."""
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        yield folder.resolve()
        return
    with tempfile.TemporaryDirectory(prefix="dnmf-bench-", ignore_cleanup_errors=True) as made:
        yield Path(made)


def collect(session: Session, figures: Iterable[Figure], path: Path | None) -> list[Figure]:
    """Show figures as they come, add each to the JSON file at once, and end with a table."""
    found = []
    for figure in figures:
        found.append(figure)
        session.tell(" | ".join(cell for cell in figure.cells() if cell))
        if path is not None:
            with path.open("a") as file:
                file.write(json.dumps(_line(session, figure), allow_nan=False) + "\n")
    if found:
        session.console.print(_table(session, found))
    return found


def _line(session: Session, figure: Figure) -> dict[str, object]:
    when = datetime.now(UTC).isoformat(timespec="seconds")
    about = {"size": session.size, "when": when, "load": machine.load()}
    return {**figure.to_json(), **about, "machine": machine.describe()}


def _table(session: Session, figures: list[Figure]) -> Table:
    facts = machine.describe()
    kernels = ", ".join(sorted({str(pool["architecture"]) for pool in facts["blas"]}))
    caption = f"{facts['processor']}, {facts['cores']} cores, BLAS kernels {kernels}"
    caption += f", load {machine.load()[0]}"
    table = Table(title=f"{figures[0].benchmark} ({session.size})", caption=caption)
    for column in ("case", "measured", "value", "goal", "met"):
        table.add_column(column, overflow="fold")
    for figure in figures:
        table.add_row(*figure.cells(), style="red" if figure.met is False else None)
    return table
