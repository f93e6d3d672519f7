"""Every exception that dnmf raises on purpose, and its warning.

A message says what is wrong, with the numbers, and what to do about it. The
command line prints it without a traceback and exits with ``exit_code``.
"""

from __future__ import annotations

__all__ = [
    "ClusterError",
    "CorruptDataError",
    "DnmfError",
    "InputError",
    "MemoryPlanError",
    "MissingDependencyError",
    "OpenRowsWarning",
    "OptionError",
    "OutOfMemoryError",
    "OutputExistsError",
    "ResumableError",
    "RunError",
    "RunLockedError",
    "StorageError",
    "TransientError",
    "VersionMismatchError",
    "WorkersDiedError",
]


class DnmfError(Exception):
    """Base of all errors of this package.

    Attributes
    ----------
    exit_code : int
        What the command line exits with: 2 for bad use or input, 3 for a run
        that was interrupted and can be resumed.
    """

    exit_code = 2


class InputError(DnmfError, ValueError):
    """V is not a non-negative, finite, two-dimensional matrix that can be read."""


class CorruptDataError(InputError):
    """Stored bytes cannot be decoded, are missing, or changed since the scan."""


class OptionError(DnmfError, ValueError):
    """An option has an impossible value, or two options contradict each other."""


class MemoryPlanError(DnmfError):
    """The fit cannot run within the memory that it may use."""


class OutputExistsError(DnmfError, FileExistsError):
    """The output exists and ``overwrite`` was not asked for."""


class RunError(DnmfError):
    """A run folder is missing, damaged, of another format, or cannot be written."""


class RunLockedError(RunError):
    """Another living process works on this run."""


class VersionMismatchError(DnmfError):
    """Client, scheduler and workers (or a run and this process) differ in a version."""


class ClusterError(DnmfError):
    """The scheduler does not answer, or the cluster cannot do what the fit needs."""


class MissingDependencyError(DnmfError, ImportError):
    """An optional package is needed; the message is the install command."""


class ResumableError(DnmfError):
    """The fit stopped before its end; its run folder holds all committed passes."""

    exit_code = 3


class StorageError(RunError, ResumableError):
    """A run could not be written or read any more: a full, read-only or lost storage."""


class OutOfMemoryError(ResumableError):
    """A task asked for more memory than the system gave."""


class WorkersDiedError(ResumableError):
    """Worker after worker died while it ran the same task."""


class TransientError(DnmfError):
    """A failure that may pass by itself; the executor tries again, a counted number of times."""


class OpenRowsWarning(UserWarning):
    """Rows of W of a transform are not solved: they may be far from an optimum."""
