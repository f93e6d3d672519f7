"""The demo's text: found in sources, stored as AnnData does, recognisable."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
import zarr

from dnmf.cli.demo_corpus import Corpus, docstrings, standard_library, store, vectorize
from dnmf.cli.demo_topics import topics
from dnmf.errors import InputError

MODULE = '''"""About the module."""
raise SystemExit("never imported")
if True:
    class Outer:
        """About a class."""
        class Inner:
            def method(self):
                """About a method."""
            def method(self):
                """About its other half."""
        async def later(self):
            "About a coroutine."
def undocumented():
    def inner():
        """About a closure."""
def blank():
    """   """
'''


def test_every_kind_of_docstring_is_found_and_nothing_is_executed(tmp_path):
    (tmp_path / "package" / "test").mkdir(parents=True)
    (tmp_path / "package" / "__init__.py").write_text(MODULE)
    (tmp_path / "package" / "broken.py").write_text('"""Doc."""\ndef f(:\n')
    (tmp_path / "package" / "test" / "tests.py").write_text('"""Left out."""\n')
    assert list(docstrings(tmp_path)) == [
        ("package", "About the module."),
        ("package.Outer", "About a class."),
        ("package.Outer.Inner.method", "About a method."),
        ("package.Outer.Inner.method (2)", "About its other half."),
        ("package.Outer.later", "About a coroutine."),
        ("package.undocumented.inner", "About a closure."),
    ]


def test_a_python_without_sources_is_one_sentence(monkeypatch, tmp_path):
    monkeypatch.setattr("sysconfig.get_path", lambda name: str(tmp_path))
    with pytest.raises(InputError, match="no sources of the standard library"):
        standard_library()


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    return vectorize(list(docstrings(standard_library())))


def test_the_standard_library_is_a_real_corpus(corpus):
    n, d = corpus.X.shape
    assert n > 3000
    assert d > 1000
    assert (n, d) == (len(corpus.documents), len(corpus.terms))
    assert corpus.X.dtype == np.float32
    assert corpus.X.has_sorted_indices
    assert corpus.X.data.min() > 0
    assert len(set(corpus.documents)) == n
    np.testing.assert_allclose(corpus.X.power(2).sum(axis=1), 1, rtol=1e-5)
    assert {"json.load", "os.walk", "textwrap.dedent"} <= set(corpus.documents)
    assert {"decimal", "widget", "socket"} <= set(corpus.terms)
    assert "the" not in corpus.terms
    assert "kwargs" not in corpus.terms


def test_rows_are_the_documents_they_are_named_after(corpus):
    row = corpus.X[[corpus.documents.index("textwrap.dedent")]]
    assert {"whitespace", "text", "lines"} <= {corpus.terms[j] for j in row.indices}


def test_stored_as_anndata_stores_it(corpus, tmp_path):
    store(corpus, tmp_path / "docs.zarr")
    root = zarr.open_group(tmp_path / "docs.zarr", mode="r")
    X = root["X"]
    assert X.attrs["encoding-type"] == "csr_matrix"
    parts = tuple(X[name][:] for name in ("data", "indices", "indptr"))
    read = sp.csr_array(parts, shape=tuple(X.attrs["shape"]))
    assert (read != corpus.X).nnz == 0
    for axis, names in (("obs", corpus.documents), ("var", corpus.terms)):
        frame = root[axis]
        assert frame.attrs["encoding-type"] == "dataframe"
        index = frame[frame.attrs["_index"]]
        assert index.attrs["encoding-type"] == "string-array"
        assert list(index[:]) == names


def test_anndata_reads_it(corpus, tmp_path):
    anndata = pytest.importorskip("anndata", exc_type=ImportError)
    store(corpus, tmp_path / "docs.zarr")
    data = anndata.read_zarr(tmp_path / "docs.zarr")
    assert list(data.obs_names) == corpus.documents
    assert list(data.var_names) == corpus.terms
    assert (sp.csr_array(data.X) != corpus.X).nnz == 0


def test_topics_name_the_largest_weights():
    corpus = Corpus(sp.csr_array((3, 4)), ["f", "g", "h"], ["a", "b", "c", "d"])
    H = np.array([[0, 2, 1, 2], [1, 0, 0, 0]])
    W = np.array([[0, 1], [3, 2], [5, 0]])
    assert topics(H, W, corpus, words=2, objects=2) == [["b, d", "h\ng"], ["a", "g\nf"]]
