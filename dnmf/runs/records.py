"""Small JSON files that carry their own checksum."""

from __future__ import annotations

import json
import marshal
import math
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np

__all__ = ["decode", "encode", "finite", "frozen", "rounded_trip", "thawed"]

_HEAD = b'{"checksum": "%08x", "content": '
_TAIL = b"}\n"
_HEAD_LENGTH = len(_HEAD % 0)


def encode(content: Mapping[str, Any]) -> bytes:
    """JSON of ``{"checksum": ..., "content": content}``; floats come back bit for bit."""
    payload = _dumps(content)
    return _HEAD % zlib.crc32(payload) + payload + _TAIL


def decode(data: bytes) -> dict[str, Any]:
    """The content of what ``encode`` made.

    Raises
    ------
    ValueError
        It is truncated or damaged; the message says which.
    """
    if not data.endswith(_TAIL) or len(data) < _HEAD_LENGTH + len(_TAIL):
        raise ValueError(f"it is truncated ({len(data)} bytes)")
    payload = data[_HEAD_LENGTH : -len(_TAIL)]
    if data[:_HEAD_LENGTH] != _HEAD % zlib.crc32(payload):
        raise ValueError("it differs from its checksum")
    content = json.loads(payload)
    if not isinstance(content, dict):
        raise ValueError("it is not a JSON object")
    return content


def rounded_trip(content: Mapping[str, Any]) -> dict[str, Any]:
    """What writing and reading again would give, shared with nothing."""
    copy: dict[str, Any] = json.loads(_dumps(content))
    return copy


def frozen(content: Mapping[str, Any]) -> bytes:
    """The same for memory only, as bytes of this interpreter: a tenth of the time of JSON."""
    try:
        return marshal.dumps(content)
    except ValueError:  # NumPy's numbers, which JSON makes Python's
        return marshal.dumps(rounded_trip(content))


def thawed(data: bytes) -> dict[str, Any]:
    """The content of what ``frozen`` made in this process, shared with nothing."""
    content: dict[str, Any] = marshal.loads(data)
    return content


def finite(value: Any) -> Any:
    """``value`` as strict JSON: NumPy numbers as Python's, NaN and infinity as null."""
    if isinstance(value, Mapping):
        return {str(key): finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(item) for item in value]
    if isinstance(value, (np.generic, np.ndarray)):
        return finite(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value


def _dumps(content: Mapping[str, Any]) -> bytes:
    return json.dumps(content, separators=(",", ":"), default=_from_numpy).encode()


def _from_numpy(value: Any) -> Any:
    if isinstance(value, (np.generic, np.ndarray)):
        return value.tolist()
    raise TypeError(f"a record cannot hold {value!r} ({type(value).__name__})")
