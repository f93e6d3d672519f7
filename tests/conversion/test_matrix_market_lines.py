"""Matrix Market: a token that is not wholly a number of the field is refused, with its line."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from scipy.io import mmread

import dnmf
from dnmf.cli.main import cli
from dnmf.conversion.external_sort import Unpacking
from dnmf.conversion.files import unpack
from dnmf.conversion.limits import ConversionLimits
from dnmf.conversion.matrix_market_lines import check_lines
from dnmf.errors import InputError
from dnmf.sources import open_source
from dnmf.testing.source_contract import read

INTEGERS = "write real for integer in the first line"
BAD = [
    ("integer", "4.978", INTEGERS),
    ("integer", "0.5", INTEGERS),
    ("integer", "1e3", INTEGERS),
    ("integer", "5.", INTEGERS),
    ("integer", "nan", INTEGERS),
    ("integer", "12abc", "'12abc' is no number; correct it"),
    ("integer", "0x10", "'0x10' is no number"),
    ("unsigned-integer", "3.7", "write real for unsigned-integer"),
    ("unsigned-integer", "-1", "write real for unsigned-integer"),
    ("real", "1,5", "write it with a decimal point: 1.5"),
    ("real", "1.5D+03", r"write its exponent with e: 1.5e\+03"),
    ("real", "2d-1", "write its exponent with e: 2e-1"),
    ("real", "1e", "'1e' is no number"),
    ("real", "1_000", "'1_000' is no number"),
    ("real", "1.2.3", "'1.2.3' is no number"),
    ("real", "nan(3)", "is no number"),
    ("real", "+5", "leave it out: 5"),
]


def body(layout: str, field: str, symmetry: str, lines: list[str]) -> str:
    """Return a file of 2 x 2 entries, with a comment and a blank line before them."""
    size = "2 2" if layout == "array" else f"2 2 {len(lines)}"
    head = f"%%MatrixMarket matrix {layout} {field} {symmetry}\n% made by hand\n{size}\n\n"
    return head + "\n".join(lines) + "\n"


def refused(tmp_path: Path, text: str, match: str, suffix: str = ".mtx") -> None:
    path = tmp_path / f"V{suffix}"
    path.write_bytes(gzip.compress(text.encode()) if suffix.endswith("gz") else text.encode())
    with pytest.raises(InputError, match=match) as error:
        dnmf.convert(path, tmp_path / "V.zarr")
    assert str(path) in str(error.value)
    assert sorted(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(("field", "token", "remedy"), BAD)
def test_values_of_coordinates(tmp_path: Path, field: str, token: str, remedy: str) -> None:
    lines = ["1 1 3", f"2 1 {token}", "2 2 1"]
    refused(tmp_path, body("coordinate", field, "general", lines), f"line 6: .*{remedy}")


@pytest.mark.parametrize(("field", "token", "remedy"), BAD[:12:5])
@pytest.mark.parametrize("symmetry", ["general", "symmetric"])
def test_values_of_arrays(
    tmp_path: Path, field: str, token: str, remedy: str, symmetry: str
) -> None:
    lines = ["3", "1", token, "2"][: 4 if symmetry == "general" else 3]
    refused(tmp_path, body("array", field, symmetry, lines), f"line 7: .*{remedy}", ".mtx.gz")


@pytest.mark.parametrize(
    ("layout", "field", "line", "text"),
    [
        ("coordinate", "real", "1 1.5 5", "must begin with a row and a column, but '1.5' is none"),
        ("coordinate", "real", "1,1,5", "'1,1,5' must begin with a row and a column"),
        ("coordinate", "real", "1 1 5 7", "has 4 parts; there must be row, column, value"),
        ("coordinate", "integer", "1 1 5 % why", "has 5 parts"),
        ("coordinate", "real", "1 1", "has 2 parts"),
        ("coordinate", "pattern", "1 1 7", "the header says pattern, which has none"),
        ("array", "real", "5 7", "has 2 parts; there must be value, each on a line of its own"),
    ],
)
def test_lines(tmp_path: Path, layout: str, field: str, line: str, text: str) -> None:
    refused(tmp_path, body(layout, field, "general", [line]), f"line 5: .*{text}")


@pytest.mark.parametrize(
    ("field", "tokens"),
    [
        ("integer", ["5", "-5", "007", "0"]),
        ("unsigned-integer", ["18446744073709551615", "0"]),
        ("real", ["1", "1.", ".5", "-.5", "1.e5", "1E+05", "2e-3", "inf", "-Infinity", "NaN"]),
    ],
)
def test_what_is_a_number_is_read_whole(tmp_path: Path, field: str, tokens: list[str]) -> None:
    """What passes is what SciPy reads, to the last character, and Python reads alike."""
    lines = [f"  {i + 1}\t1 {token} \r" for i, token in enumerate(tokens)]
    head = f"%%MatrixMarket matrix coordinate {field} general\n{len(tokens)} 1 {len(tokens)}\n"
    path = tmp_path / "V.mtx"
    path.write_text(head + "\n".join(lines) + "\n", newline="")
    kind = int if field != "real" else float
    want = np.array([[kind(token)] for token in tokens])
    np.testing.assert_array_equal(mmread(path).toarray(), want)
    check_lines(path, path.read_bytes().split(b"\n", 2)[2], 3, "coordinate", field)
    if field != "real":
        dnmf.convert(path, tmp_path / "V.zarr")
        np.testing.assert_array_equal(read(open_source(tmp_path / "V.zarr")), want)


def test_line_numbers_of_long_files(tmp_path: Path) -> None:
    lines = ["1 1 1", "", "2 2 2"] * 40
    lines[-1] = "2 2 2.5"
    (tmp_path / "V.mtx").write_text(body("coordinate", "integer", "general", lines))
    (tmp_path / "to").mkdir()
    few = ConversionLimits(text_bytes=50)  # read in many pieces
    with pytest.raises(InputError, match=r"line 124: '2\.5'"):
        unpack(str(tmp_path / "V.mtx"), Unpacking(tmp_path / "to", 10**9, limits=few))


def test_the_command_names_the_line(tmp_path: Path) -> None:
    (tmp_path / "V.mtx").write_text(body("coordinate", "integer", "general", ["1 1 4.978"]))
    told = CliRunner().invoke(cli, ["convert", str(tmp_path / "V.mtx"), str(tmp_path / "V.zarr")])
    assert told.exit_code
    assert "line 5: '4.978'" in told.output
