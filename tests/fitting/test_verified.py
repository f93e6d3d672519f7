"""How often data are compared with what the scan saw."""

from __future__ import annotations

import numpy as np
import zarr

import dnmf
from dnmf.fitting.data import reading
from dnmf.linalg.measure import checksum
from dnmf.steps.serial import Serial

OPTIONS = {"executor": Serial(), "sample": 0, "block_size": 12_000, "max_passes": 6, "tol": 0}


def _checks(monkeypatch, V):
    """Checksums taken per block."""
    calls = []
    monkeypatch.setattr(reading, "checksum", lambda raw: calls.append(1) or checksum(raw))
    fit = dnmf.fit(V, 3, **OPTIONS)
    assert len(fit.history) == 6
    return len(calls) / fit.details["layout"]["blocks"]


def test_data_in_memory_are_compared_once_after_the_scan(monkeypatch):
    assert _checks(monkeypatch, np.random.default_rng(0).random((400, 30))) == 2


def test_stored_data_are_compared_at_every_read(monkeypatch, tmp_path):
    V = np.random.default_rng(0).random((400, 30))
    zarr.create_array(str(tmp_path / "V"), data=V, chunks=(20, 30))
    assert _checks(monkeypatch, str(tmp_path / "V")) == 7
