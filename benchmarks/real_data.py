"""Real data, small enough to be sampled whole: single cells, and Python's own docstrings."""

from __future__ import annotations

import os
from itertools import islice
from pathlib import Path

import numpy as np
import scipy.sparse as sp

__all__ = ["documents", "single_cells"]

ROOT = Path(__file__).parents[1]


def shared_data() -> Path | None:
    """The folder with real data: ``DNMF_DATA``, else ``../shared/data`` beside the project."""
    named = os.environ.get("DNMF_DATA")
    folder = Path(named) if named else ROOT.parent / "shared" / "data"
    return folder.resolve() if folder.is_dir() else None


def single_cells(counts: bool = False) -> sp.csr_array | None:
    """Cells x genes of ``pbmc1k``: counts, or log(1 + counts per 10,000). None where absent."""
    folder = shared_data()
    if folder is None:
        return None
    genes_by_cells = sp.load_npz(folder / "pbmc1k" / "counts_genes_x_cells.npz")
    V = sp.csr_array(sp.csr_array(genes_by_cells).T).astype(np.float32)
    if not counts:
        depth = np.asarray(V.sum(axis=1)).ravel()
        V = sp.csr_array(sp.diags_array(1e4 / np.maximum(depth, 1)) @ V).astype(np.float32)
        V.data = np.log1p(V.data)
    V.sort_indices()
    return V


def documents(most: int | None = None) -> sp.csr_array:
    """tf-idf of the docstrings of this Python's standard library (differs between versions).

    Parameters
    ----------
    most : int, optional
        Only so many of them.
    """
    from dnmf.cli.demo_corpus import docstrings, standard_library, vectorize

    return vectorize(list(islice(docstrings(standard_library()), most))).X
