"""The demo's text: the docstrings of the Python standard library.

Sources are parsed, never imported, so that no module's side effects run. One document per
function, class or module; the term-document matrix is stored as AnnData stores one: the CSR
matrix ``X`` beside the names of its rows (``obs``) and columns (``var``).
"""

from __future__ import annotations

import ast
import inspect
import sysconfig
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dnmf.errors import InputError

if TYPE_CHECKING:
    import scipy.sparse as sp
    import zarr

__all__ = ["Corpus", "docstrings", "standard_library", "store", "vectorize"]

CHUNK = 256
"""Entries of a stored chunk: small, what several blocks share, each decodes for itself."""

_NOT_THE_LIBRARY = {"site-packages", "dist-packages", "test", "tests", "idlelib", "lib2to3"}
_NOT_THE_LIBRARY |= {"idle_test", "turtledemo", "__pycache__", "pydoc_data", "_pyrepl"}

# Words that describe any function at all, on top of scikit-learn's English stop words.
_EMPTY_WORDS = """
    arg args argument arguments base based called calls case class classes code contains
    containing corresponding currently default defaults determine does doesn don ensure example
    examples exist existing exists expected false follow following follows function functions
    given gives ignored including instance instances instead internal isn just kwargs like make
    makes means method methods module modules necessary need needed new none note number object
    objects old optional optionally original otherwise override param parameter parameters
    particular pass passed possible present prevent provide provided provides python raise raised
    raises represent representation representing represents require required result results
    return returned returning returns second self set sets simple single specific specified
    specifies specify support supported supports takes true try type types unless use used useful
    user users uses using usually value values want way work works
"""


@dataclass(frozen=True)
class Corpus:
    """A term-document matrix with its names.

    Attributes
    ----------
    X : (documents, terms) CSR array, float32
        tf-idf, rows of unit length.
    documents : list of str
        Dotted names of functions, classes and modules.
    terms : list of str
    """

    X: sp.csr_array
    documents: list[str]
    terms: list[str]


def standard_library() -> Path:
    """Find the folder that holds the sources of the standard library.

    Raises
    ------
    InputError
        This Python came without them.
    """
    root = Path(sysconfig.get_path("stdlib"))
    if not (root / "ast.py").is_file():
        raise InputError(
            f"no sources of the standard library in {root}; "
            "run the demo with a Python that has them (python.org, conda, most distributions)"
        )
    return root


def docstrings(root: Path) -> Iterator[tuple[str, str]]:
    """Give dotted name and docstring of every documented function, class, module in ``root``.

    In the order of the sorted paths, so that the same Python gives the same rows. A name that is
    defined again (a setter, the other branch of an if) gets a number.
    """
    seen: Counter[str] = Counter()
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        if _NOT_THE_LIBRARY.isdisjoint(parts):
            for name, text in _in_file(path, ".".join(parts).removesuffix(".__init__")):
                seen[name] += 1
                yield (name if seen[name] == 1 else f"{name} ({seen[name]})"), text


def _in_file(path: Path, module: str) -> Iterator[tuple[str, str]]:
    try:
        with warnings.catch_warnings():  # old sources hold invalid escapes
            warnings.simplefilter("ignore")
            tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):  # templates and deliberately broken files
        return
    yield from _in_node(tree, module)


def _in_node(node: ast.Module | ast.ClassDef | ast.AST, name: str) -> Iterator[tuple[str, str]]:
    if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        text = ast.get_docstring(node)
        if text and text.strip():
            yield name, inspect.cleandoc(text)
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield from _in_node(child, f"{name}.{child.name}")
        elif not isinstance(child, ast.expr):  # definitions hide in if, try and with
            yield from _in_node(child, name)


def vectorize(documents: Sequence[tuple[str, str]], min_df: int = 5, max_df: float = 0.1) -> Corpus:
    """Compute tf-idf of the documents' words.

    Parameters
    ----------
    documents : sequence of (name, text)
    min_df : int
        Documents that a term must occur in.
    max_df : float
        Share of the documents that a term may occur in.

    Returns
    -------
    Corpus
        Documents without any remaining term are left out.
    """
    import numpy as np
    import scipy.sparse as sp
    from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS, TfidfVectorizer

    vectorizer = TfidfVectorizer(
        stop_words=sorted({*ENGLISH_STOP_WORDS, *_EMPTY_WORDS.split()}),
        token_pattern=r"[a-z]{3,}",
        min_df=min_df,
        max_df=max_df,
        sublinear_tf=True,
        dtype=np.float32,
    )
    X = sp.csr_array(vectorizer.fit_transform([text for _, text in documents]))
    X.sort_indices()
    kept = np.flatnonzero(np.diff(X.indptr)).tolist()
    names = [documents[row][0] for row in kept]
    return Corpus(sp.csr_array(X[kept]), names, list(vectorizer.get_feature_names_out()))


def store(corpus: Corpus, path: Path) -> None:
    """Write the corpus as a new Zarr group in AnnData's layout (Zarr v2, as AnnData writes)."""
    import zarr

    root = zarr.create_group(path, zarr_format=2)
    root.attrs.update({"encoding-type": "anndata", "encoding-version": "0.1.0"})
    X = root.create_group("X")
    X.attrs.update(
        {
            "encoding-type": "csr_matrix",
            "encoding-version": "0.1.0",
            "shape": [int(length) for length in corpus.X.shape],
        }
    )
    for name in ("data", "indices", "indptr"):
        X.create_array(name, data=getattr(corpus.X, name), chunks=(CHUNK,))
    _store_names(root, "obs", corpus.documents)
    _store_names(root, "var", corpus.terms)


def _store_names(root: zarr.Group, axis: str, names: Sequence[str]) -> None:
    import numpy as np

    frame = root.create_group(axis)
    frame.attrs.update(
        {
            "encoding-type": "dataframe",
            "encoding-version": "0.2.0",
            "_index": "_index",
            "column-order": [],
        }
    )
    index = frame.create_array("_index", shape=(len(names),), dtype=str, chunks=(len(names),))
    index[:] = np.array(names, dtype=object)
    index.attrs.update({"encoding-type": "string-array", "encoding-version": "0.2.0"})
