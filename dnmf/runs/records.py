"""Small JSON files that carry their own checksum."""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np

__all__ = ["decode", "encode", "finite", "rounded_trip"]

_HEAD = b'{"checksum": "%08x", "content": '
_TAIL = b"}\n"
_HEAD_LENGTH = len(_HEAD % 0)
_PLAIN = frozenset({bool, int, float, str, type(None)})


def encode(content: Mapping[str, Any]) -> bytes:
    """Write ``{"checksum": ..., "content": content}`` as JSON; floats come back bit for bit."""
    payload = _dumps(content)
    return _HEAD % zlib.crc32(payload) + payload + _TAIL


def decode(data: bytes) -> dict[str, Any]:
    """Return the content of what ``encode`` made.

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
    """Copy what writing and reading again would give, in a third of JSON's time."""
    return {_key(key): _copied(value) for key, value in content.items()}


def _copied(value: Any) -> Any:
    kind = type(value)
    if kind in _PLAIN:
        return value
    if kind is dict:
        return {_key(key): _copied(item) for key, item in value.items()}
    if kind is list or kind is tuple:
        return [_copied(item) for item in value]
    return json.loads(json.dumps(value, default=_from_numpy))


def _key(key: Any) -> str:
    if type(key) is str:
        return key
    (text,) = json.loads(json.dumps({key: 0}))
    return str(text)


def finite(value: Any) -> Any:
    """Turn a value into strict JSON: NumPy numbers into Python's, NaN and infinity into null."""
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
