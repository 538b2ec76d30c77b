"""How two JSON documents differ: the first key, by its path, and how many more."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np

from tasks import files

NAME = "JSON"
LONGEST_VALUE = 60

read = files.read_json


def compare(expected: Any, got: Any) -> str:
    """Say which value differs first, in the order of what is expected."""
    found = differences(expected, got)
    if (one := next(found, None)) is not None:
        more = sum(1 for _ in found)
        return one + (f" (and {more} more value{'s'[: more - 1]})" if more else "")
    if json.dumps(expected) != json.dumps(got):
        return "the same values, their keys in another order"
    return "the same values, written otherwise (spaces, or how numbers and texts are spelled)"


def differences(expected: Any, got: Any, path: str = "") -> Iterator[str]:
    """Say of each value in turn how it differs.

    Arrays of NumPy are compared by their bits, and told by the first element that differs.
    """
    if isinstance(expected, dict) and isinstance(got, dict):
        yield from _of_objects(expected, got, path)
    elif isinstance(expected, list) and isinstance(got, list):
        for index, (one, other) in enumerate(zip(expected, got, strict=False)):
            yield from differences(one, other, f"{path}[{index}]")
        if len(expected) != len(got):
            yield f"{path or 'the list'}: {len(got)} items instead of {len(expected)}"
    elif isinstance(expected, np.ndarray) and isinstance(got, np.ndarray):
        yield from _of_arrays(expected, got, path)
    elif type(expected) is not type(got) or repr(expected) != repr(got):
        yield f"{path or 'the value'}: {shown(got)} instead of {shown(expected)}"


def _of_objects(expected: dict[str, Any], got: dict[str, Any], path: str) -> Iterator[str]:
    for key in [*expected, *(key for key in got if key not in expected)]:
        below = f"{path}.{key}" if path else key
        if key not in got:
            yield f"{below}: is missing ({shown(expected[key])} is expected)"
        elif key not in expected:
            yield f"{below}: is there, and is not expected ({shown(got[key])})"
        else:
            yield from differences(expected[key], got[key], below)


def _of_arrays(
    expected: np.ndarray[Any, Any], got: np.ndarray[Any, Any], path: str
) -> Iterator[str]:
    if len(expected) != len(got):
        yield f"{path}: {len(got)} items instead of {len(expected)}"
    elif expected.dtype != got.dtype:
        yield f"{path}: {got.dtype} instead of {expected.dtype}"
    elif (at := unequal(expected, got)).size:
        where = int(at[0])
        yield f"{path}[{where}]: {got[where]!s} instead of {expected[where]!s}"


def unequal(expected: np.ndarray[Any, Any], got: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Give where two arrays of one type and length differ in their bits."""
    width = expected.dtype.itemsize
    one, other = (
        np.frombuffer(each.tobytes(), np.uint8).reshape(-1, width) for each in (expected, got)
    )
    return np.flatnonzero((one != other).any(axis=1))


def shown(value: Any) -> str:
    """Write a value as JSON does, if it is long only its beginning."""
    text = json.dumps(value, ensure_ascii=False, default=lambda array: array.tolist())
    return text if len(text) <= LONGEST_VALUE else text[: LONGEST_VALUE - 1] + "…"
