"""How much memory processes really took: resident bytes, now and at their peak."""

from __future__ import annotations

import resource
import sys
from pathlib import Path
from typing import Any

__all__ = ["Peaks", "resident", "worker_peaks"]


def resident() -> tuple[int, int]:
    """Measure the resident bytes of this process: now, and at its peak.

    The kernel's own high-water mark, so nothing between two samples is missed.
    """
    status = Path("/proc/self/status")
    if status.exists():
        fields = dict(line.split(":", 1) for line in status.read_text().splitlines())
        return _kib(fields["VmRSS"]), _kib(fields["VmHWM"])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    peak *= 1 if sys.platform == "darwin" else 1024
    return peak, peak


def _kib(text: str) -> int:
    return int(text.split()[0]) * 1024


def worker_peaks(client: Any) -> dict[str, int]:
    """Measure the peak resident bytes of every worker, by address (new after a restart)."""
    return {address: peak for address, (_, peak) in client.run(resident).items()}


class Peaks:
    """Watches a client's process and its workers (if any) from construction on."""

    def __init__(self, client: Any) -> None:
        self.client = client
        self.before = resident()[0]
        self.workers = set(worker_peaks(client)) if client else set()

    def lines(self, limit: int | None) -> list[tuple[str, str]]:
        """List label and value: largest worker, growth of the client, restarts."""
        from dnmf.values import format_bytes

        if self.client is None:
            return [("largest size", f"{format_bytes(resident()[1])} resident, in this process")]
        peaks = worker_peaks(self.client)
        of = f" of {format_bytes(limit)}" if limit else ""
        lines = [
            ("largest worker", f"{format_bytes(max(peaks.values()))} resident{of}"),
            ("client's growth", format_bytes(max(0, resident()[1] - self.before))),
        ]
        lost = self.workers - set(peaks)
        if lost:
            lines.append(("workers lost", f"{len(lost)}; what they took is not in the figure"))
        return lines
