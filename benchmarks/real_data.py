"""Small real data: cells, faces, sound and air from a folder, and Python's own docstrings."""

from __future__ import annotations

import os
from itertools import islice
from pathlib import Path

import numpy as np
import scipy.sparse as sp

__all__ = ["air", "documents", "expression", "faces", "piano", "signatures", "single_cells"]

ROOT = Path(__file__).parents[1]


def shared_data() -> Path | None:
    """The folder with real data: ``DNMF_DATA``, else ``../shared/data`` beside the project."""
    named = os.environ.get("DNMF_DATA")
    folder = Path(named) if named else ROOT.parent / "shared" / "data"
    return folder.resolve() if folder.is_dir() else None


def _file(name: str) -> Path | None:
    """A file of that folder; None where it is absent."""
    folder = shared_data()
    return folder / name if folder is not None and (folder / name).is_file() else None


def single_cells(counts: bool = False) -> sp.csr_array | None:
    """Cells x genes of ``pbmc1k``: counts, or log(1 + counts per 10,000). None where absent."""
    path = _file("pbmc1k/counts_genes_x_cells.npz")
    if path is None:
        return None
    genes_by_cells = sp.load_npz(path)
    V = sp.csr_array(sp.csr_array(genes_by_cells).T).astype(np.float32)
    if not counts:
        depth = np.asarray(V.sum(axis=1)).ravel()
        V = sp.csr_array(sp.diags_array(1e4 / np.maximum(depth, 1)) @ V).astype(np.float32)
        V.data = np.log1p(V.data)
    V.sort_indices()
    return V


def faces(step: int = 1) -> np.ndarray | None:
    """Images x pixels of the ORL faces; only every so many pixels of each edge. None where absent.

    Photographs by AT&T Laboratories Cambridge.
    """
    path = _file("faces/orl.npz")
    if path is None:
        return None
    with np.load(path) as stored:
        images, shape = stored["images"], stored["shape"]
    return images.reshape(-1, *shape)[:, ::step, ::step].reshape(len(images), -1).astype(np.float32)


def piano() -> np.ndarray | None:
    """Windows x frequencies: magnitudes of a piano's notes. None where absent."""
    path = _file("piano/Piano.wav")
    if path is None:
        return None
    from scipy.io import wavfile
    from scipy.signal import stft

    rate, sound = wavfile.read(path)
    magnitudes = np.abs(stft(sound.astype(float), rate, nperseg=1024, noverlap=512)[2].T)
    return np.ascontiguousarray(magnitudes / magnitudes.max(), np.float32)


def air(city: str) -> np.ndarray | None:
    """Hours x species of air: concentrations in `pmf`, without uncertainties. None where absent."""
    path = _file(f"pmf/Dataset-{city}-con.csv")
    if path is None:
        return None
    return np.genfromtxt(path, delimiter=",", skip_header=1)[:, 1:].astype(np.float32)


def expression(name: str) -> np.ndarray | None:
    """Genes x samples of `leukemia` or `medulloblastoma`. None where absent."""
    stem = {"leukemia": "ALL_AML", "medulloblastoma": "Medulloblastoma"}[name]
    path = _file(f"{name}/{stem}_data.txt")
    return None if path is None else np.loadtxt(path, dtype=np.float32)


def signatures() -> np.ndarray | None:
    """Categories x tumours: counts of mutations of 21 breast cancers. None where absent."""
    path = _file("brca21/Samples_SBS.txt")
    if path is None:
        return None
    columns = range(1, 22)
    return np.loadtxt(path, np.float32, skiprows=1, usecols=columns, delimiter="\t")


def documents(most: int | None = None) -> sp.csr_array:
    """tf-idf of the docstrings of this Python's standard library (differs between versions).

    Parameters
    ----------
    most : int, optional
        Only so many of them.
    """
    from dnmf.cli.demo_corpus import docstrings, standard_library, vectorize

    return vectorize(list(islice(docstrings(standard_library()), most))).X
