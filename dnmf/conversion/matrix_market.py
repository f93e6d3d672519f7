"""Matrix Market files (``.mtx``, ``.mtx.gz``, ``.mtx.bz2``) to ``.npy`` files, in bounded memory.

SciPy's reader parses some megabytes at a time as if it were a file of its own, so a file
may be far larger than memory.
"""

from __future__ import annotations

import bz2
import gzip
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import scipy

from dnmf.config import MIB
from dnmf.conversion.external_sort import Unpacking
from dnmf.conversion.matrix_market_lines import check_lines
from dnmf.errors import CorruptDataError, InputError, MemoryPlanError

__all__ = ["Header", "read_header", "unpack_matrix_market"]

_TEXT = bytes(range(32, 127)) + b"\t\r\n"


@dataclass(frozen=True)
class Header:
    """The header of a Matrix Market file.

    Attributes
    ----------
    rows, columns : int
    entries : int
        Lines of the body.
    format : str
        ``"coordinate"`` or ``"array"``.
    field, symmetry : str
        As in the file.
    lines : int
        Lines of the header.
    """

    rows: int
    columns: int
    entries: int
    format: str
    field: str
    symmetry: str
    lines: int = 0

    @property
    def dtype(self) -> np.dtype:
        """Dtype that SciPy reads the field as."""
        names = {"integer": "int64", "unsigned-integer": "uint64"}
        return np.dtype(names.get(self.field, "float64"))


def _open(path: Path) -> BinaryIO:
    opener: Any = {".gz": gzip.open, ".bz2": bz2.open}.get(path.suffix.lower(), open)
    file: BinaryIO = opener(path, "rb")
    return file


def read_header(path: Path) -> Header:
    """Read the header of a Matrix Market file: its shape and kind.

    Raises
    ------
    InputError
        It is not a Matrix Market file of real numbers.
    """
    with _open(path) as file:
        return _read_header(path, file)


def _read_header(path: Path, file: BinaryIO) -> Header:
    """Read the header; ``file`` is then at the first line of the body."""
    from io import BytesIO

    from scipy.io import mminfo

    try:
        header = [file.readline(MIB)]
        lines = 1
        while header[0].startswith(b"%%MatrixMarket") and (line := file.readline(MIB)):
            lines += 1
            if line.strip() and not line.startswith(b"%"):
                header.append(line)
                break
        rows, columns, entries, layout, field, symmetry = mminfo(BytesIO(b"".join(header)))
    except (ValueError, OverflowError) as error:
        raise InputError(f"{path} is not a Matrix Market file: {error}") from None
    except (OSError, EOFError, zlib.error) as error:
        raise CorruptDataError(f"{path} cannot be read: {error}") from None
    if field == "complex" or symmetry == "hermitian":
        raise InputError(f"{path} holds complex numbers; V must be real")
    return Header(rows, columns, entries, layout, field, symmetry, lines)


def unpack_matrix_market(path: Path, to: Unpacking) -> Header:
    """Write a Matrix Market file's matrix as ``.npy`` files.

    Of coordinate files ``data.npy``, ``indices.npy`` and ``indptr.npy`` of canonical CSR, of
    array files ``dense.npy`` (column by column). Only an array file that is symmetric must fit
    into memory as a whole.

    Raises
    ------
    InputError, CorruptDataError
        A line is not what the header announces (names the line), or lines are missing.
    MemoryPlanError
        A symmetric array file does not fit.
    """
    with _open(path) as file:
        header = _read_header(path, file)
        if header.format == "coordinate":
            _unpack_coordinates(path, file, header, to)
        elif header.symmetry == "general":
            _unpack_columns(path, file, header, to)
        else:
            _unpack_symmetric(path, header, to)
    return header


def _unpack_coordinates(path: Path, file: BinaryIO, header: Header, to: Unpacking) -> None:
    expected = header.entries * (1 if header.symmetry == "general" else 2)
    shape = (header.rows, header.columns)
    sorter = to.sorter(shape, header.dtype, expected)
    size = f"{header.rows} {header.columns}"
    for parsed, done in _parsed(path, file, header, size, " {lines}", to.limits.text_bytes):
        found = scipy.sparse.coo_array(parsed)
        rows, columns = found.coords
        sorter.add(rows, columns, found.data)
        to.tell(done, header.entries)
    sorter.finish()


def _unpack_columns(path: Path, file: BinaryIO, header: Header, to: Unpacking) -> None:
    shape = (header.rows, header.columns)
    stored = np.lib.format.open_memmap(
        to.folder / "dense.npy", mode="w+", dtype=header.dtype, shape=shape, fortran_order=True
    )
    flat = stored.reshape(-1, order="F")
    before = 0
    for parsed, done in _parsed(path, file, header, "{lines} 1", "", to.limits.text_bytes):
        flat[before:done] = parsed[:, 0]
        before = done
        to.tell(done, header.entries)
    stored.flush()


def _unpack_symmetric(path: Path, header: Header, to: Unpacking) -> None:
    from scipy.io import mmread

    need = 3 * 8 * header.rows * header.columns
    if need > to.memory:
        raise MemoryPlanError(
            f"{path} is a symmetric array file, which is read as a whole: that needs "
            f"{need / 1e6:,.0f} MB, and {to.memory / 1e6:,.0f} MB may be used; give more "
            f"(--memory), or write it as a general array or a coordinate file"
        )
    try:
        with _open(path) as file:
            for _ in range(header.lines):
                file.readline()
            _check(path, file.read() + b"\n", header.lines + 1, header)
        np.save(to.folder / "dense.npy", mmread(path))
    except InputError:
        raise
    except (ValueError, OverflowError) as error:
        raise InputError(f"{path} is not a Matrix Market file: {error}") from None
    except (OSError, EOFError, zlib.error) as error:
        raise CorruptDataError(f"{path} cannot be read: {error}") from None


def _parsed(
    path: Path, file: BinaryIO, header: Header, size: str, size_end: str, text_bytes: int
) -> Iterator[tuple[Any, int]]:
    """Yield what SciPy makes of some lines of the body, and the number of lines so far."""
    banner = f"%%MatrixMarket matrix {header.format} {header.field} {header.symmetry}\n"
    done = 0
    for text, lines in _texts(path, file, header, text_bytes):
        first = header.lines + done + 1
        if done + lines > header.entries:
            raise InputError(
                f"{path} has more than the {header.entries:,} entries that its header announces"
            )
        head = banner + (size + size_end).format(lines=lines) + "\n"
        parsed = _parse(path, head.encode() + text, first)
        done += lines
        yield parsed, done
    if done < header.entries:
        raise CorruptDataError(
            f"{path} ends after {done:,} of the {header.entries:,} entries that its header "
            f"announces; it is truncated"
        )


def _texts(
    path: Path, file: BinaryIO, header: Header, text_bytes: int
) -> Iterator[tuple[bytes, int]]:
    """Yield whole lines of the body, checked and without blank ones, and how many they are."""
    first = header.lines + 1
    try:
        while text := file.read(text_bytes):
            text += file.readline()
            if not text.endswith(b"\n"):
                text += b"\n"
            _check(path, text, first, header)
            first += text.count(b"\n")
            if re.search(rb"\n[ \t\r]*\n", b"\n" + text):
                lines = [line for line in text.split(b"\n") if line.strip()]
                text = b"\n".join([*lines, b""])
            if text.strip():
                yield text, text.count(b"\n")
    except (OSError, EOFError, zlib.error) as error:
        raise CorruptDataError(f"{path} cannot be read to its end: {error}") from None


def _check(path: Path, text: bytes, first: int, header: Header) -> None:
    """Refuse what SciPy's parser would drop; at NUL it even reads beyond its memory."""
    strange = text.translate(None, _TEXT)
    if strange:
        line = first + text[: text.index(strange[:1])].count(b"\n")
        raise InputError(f"{path}, line {line:,}: byte {strange[0]} is no part of a number")
    check_lines(path, text, first, header.format, header.field)


def _parse(path: Path, text: bytes, first: int) -> Any:
    from io import BytesIO

    from scipy.io import mmread

    try:
        return mmread(BytesIO(text))
    except (ValueError, OverflowError) as error:
        told = re.match(r"Line (\d+): (.*)", str(error), re.DOTALL)
        where, why = (first + int(told[1]) - 3, told[2]) if told else (first, str(error))
        about = "line" if told else "after line"
        raise InputError(f"{path}, {about} {where:,}: {why}") from None
