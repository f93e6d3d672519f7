"""What a result says of itself, in a few lines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dnmf.cli.text import columns, number_text, seconds_text
from dnmf.values import format_bytes

if TYPE_CHECKING:
    from dnmf.results.result import Result

__all__ = ["bytes_read", "history_table", "quality", "snippet", "summary"]


def summary(result: Result, path: str, seconds: float) -> str:
    """Tell objective, error, passes, bytes, seconds, why it ended, and where the result is.

    Parameters
    ----------
    result : Result
    path : str
        As the person wrote it.
    seconds : float
        That this command took.
    """
    lines = [
        *quality(result),
        ("bytes read", format_bytes(bytes_read(result))),
        ("time", seconds_text(seconds)),
        ("stopped", result.stop_reason or "not yet"),
        ("result", path),
    ]
    return f"{columns(lines)}\n\n{snippet(path, result.details.get('mode') == 'fit')}"


def quality(result: Result) -> list[tuple[str, str]]:
    """List label and value: objective, relative error, passes, and what is worth a remark."""
    apart = (result.details.get("starts") or {}).get("remark")
    clipped, open_rows = result.details.get("clipped"), result.open_rows_remark
    open_rows = None if open_rows == result.stop_reason else open_rows  # it is shown as that
    return [
        ("objective", number_text(result.objective)),
        ("relative error", number_text(result.relative_error, 5)),
        ("passes", str(result.passes)),
        *([("starts", apart)] if apart else []),
        *([("open rows", open_rows)] if open_rows else []),
        *([("clipped", f"{clipped:,} negative entries count as 0")] if clipped else []),
    ]


def bytes_read(result: Result) -> int:
    """Count the decoded bytes of V that a finished fit read: in its scan and all passes."""
    scan = result.details["layout"]["bytes_per_read"] if result.details["mode"] == "fit" else 0
    return int(scan) + sum(int(row["bytes_read"]) for row in result.history)


def snippet(path: str, fit: bool = True) -> str:
    """Write Python that opens a result, of a fit or of a transform."""
    opened = f"dnmf.open({path!r})"
    line = f"fit = {opened}  # fit.W, fit.H, fit.history" if fit else f"W = {opened}.W"
    return f"    import dnmf\n    {line}"


def _remark(row: dict[str, Any], brought: dict[int, float]) -> str:
    """Say how many rounds made the H of a pass, with what effect, and whether it was rejected."""
    rounds = ""
    if row.get("rounds"):
        rounds = f"after {row['rounds']} rounds, {number_text(row['predicted'], 3)} predicted"
    if rounds and row["accepted"] and row["pass"] in brought:
        rounds += f", {number_text(brought[row['pass']], 3)} brought"
    return ", ".join(text for text in (rounds, "" if row["accepted"] else "rejected") if text)


def history_table(rows: list[dict[str, Any]]) -> str:
    """Write one line per pass.

    Of the rounds before it their number, and the decrease of the objective that they predicted and
    that came; a rejected one is marked.
    """
    head = ("pass", "objective", "relative error", "bytes read", "time", "")
    from dnmf.plots.fit import decreases

    brought = {row["pass"]: row["brought"] for row in decreases(rows)}
    cells = [
        (
            str(row["pass"]),
            number_text(row["objective"], 8),
            number_text(row["relative_error"], 5),
            format_bytes(row["bytes_read"]),
            seconds_text(row["seconds"]),
            _remark(row, brought),
        )
        for row in rows
    ]
    return columns([head, *cells], right=frozenset(range(5)))
