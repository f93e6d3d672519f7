"""What a Dask graph reads is found in its tasks."""

from __future__ import annotations

import functools

import numpy as np
import zarr

from dnmf.interop.dask_origins import paths_read


class Anything:
    """Answers to any name with a new object, as dask.delayed's do."""

    def __getattr__(self, name):
        return Anything()


def test_paths_and_arrays_wherever_they_are(tmp_path):
    array = zarr.create_array(tmp_path / "a.zarr", shape=(2, 2), chunks=(1, 1), dtype="f4")
    group = zarr.create_group(tmp_path / "g.zarr")
    inner = group.create_array("x/y", shape=(2, 2), chunks=(1, 1), dtype="f4")
    graph = {
        "a": (functools.partial(np.add, array), "relative/path", 3, None),
        ("b", 0): [{"deep": (inner,)}, str(tmp_path / "c.npy"), Anything(), b"bytes"],
        "c": np.ones(3),
    }
    graph["a"] += (graph,)  # a circle
    expected = [tmp_path / "a.zarr", tmp_path / "c.npy", tmp_path / "g.zarr/x/y"]
    assert paths_read(graph) == [str(path) for path in expected]
