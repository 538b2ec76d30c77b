"""How two XGBoost models differ: how many trees, or the first tree and node, and what in it.

The file is read here and not by XGBoost, whose reader of damaged bytes may crash or never end: of
a small model with one byte changed, XGBoost 3.2 did either in one of 25 cases. The format is
Universal Binary JSON, https://ubjson.org, in which XGBoost writes what it else writes as JSON.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from tasks.differences import documents

NAME = "XGBoost model"
NUMBERS = {"i": ">i1", "U": ">u1", "I": ">i2", "l": ">i4", "L": ">i8", "d": ">f4", "D": ">f8"}
WORDS = {b"Z": None, b"T": True, b"F": False}
STRUCTURE = ("left_children", "right_children", "split_indices", "split_conditions", "default_left")
"""What a tree decides by, in the order in which a node is read."""


def read(path: Path) -> dict[str, Any]:
    """Read a model as nested dictionaries and lists, with arrays of numbers as NumPy's.

    Raises ValueError for what is no such file.
    """
    found = _Reader(path.read_bytes()).document()
    if not isinstance(found, dict) or "learner" not in found:
        raise ValueError("must hold a learner")
    return found


def compare(expected: dict[str, Any], got: dict[str, Any]) -> str:
    """Say which tree differs first and where, or else which value beside the trees."""
    (one, wanted), (other, found) = _parted(expected), _parted(got)
    differing = [
        at for at, pair in enumerate(zip(wanted, found, strict=False)) if _first(*pair, []) != ""
    ]
    names = one.get("learner", {}).get("feature_names", [])
    said = []
    if len(wanted) != len(found):
        said.append(f"{len(found)} trees instead of {len(wanted)}")
    if differing:
        at = differing[0]
        first = f"tree {at}, {_first(wanted[at], found[at], names)}"
        said.append(f"{first} (in {len(differing)} of {min(len(wanted), len(found))} trees)")
    elif said:
        said.append("the first are the same")
    return "; ".join(said) or next(
        documents.differences(one, other), "the same trees and values, written otherwise"
    )


def _parted(model: dict[str, Any]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Part a model in what stands beside its trees, and the trees."""
    learner = model["learner"]
    whole = learner.get("gradient_booster", {})
    is_wrapped = "gbtree" in whole  # by `dart`, with a weight for each tree
    booster = whole["gbtree"] if is_wrapped else whole
    inner = booster.get("model", {})
    bare = {**booster, "model": {key: value for key, value in inner.items() if key != "trees"}}
    beside = {**whole, "gbtree": bare} if is_wrapped else bare
    rest = {**model, "learner": {**learner, "gradient_booster": beside}}
    return rest, inner.get("trees", [])


def _first(expected: dict[str, Any], got: dict[str, Any], names: list[str]) -> str:
    """Say what differs first in a tree, by its nodes; "" if nothing does."""
    nodes = [len(tree.get("left_children", ())) for tree in (got, expected)]
    if nodes[0] != nodes[1]:
        return f"{nodes[0]} nodes instead of {nodes[1]}"
    found: list[tuple[int, int, str]] = []
    for order, key in enumerate(STRUCTURE):
        one, other = expected.get(key), got.get(key)
        if not (isinstance(one, np.ndarray) and isinstance(other, np.ndarray)):
            continue
        if one.dtype == other.dtype and len(one) == len(other):
            found += [(int(at), order, key) for at in documents.unequal(one, other)[:1]]
    if found:
        node, _, key = min(found)
        return f"node {node}: {_told(expected, got, key, node, names)}"
    return next(documents.differences(expected, got), "")


def _told(
    expected: dict[str, Any], got: dict[str, Any], key: str, node: int, names: list[str]
) -> str:
    one, other = expected[key][node], got[key][node]
    if key == "split_indices":
        one, other = (names[at] if at < len(names) else f"feature {at}" for at in (one, other))
        return f"splits by {other} instead of {one}"
    if key == "split_conditions":
        is_leaf = int(expected["left_children"][node]) < 0
        return f"{'leaf value' if is_leaf else 'threshold'} {other!s} instead of {one!s}"
    return f"{key.replace('_', ' ')} {other!s} instead of {one!s}"


class _Reader:
    """Reads Universal Binary JSON from bytes; raises ValueError where they are none."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def document(self) -> Any:
        """Read the one value that the bytes hold."""
        found = self._value(self._take(1))
        if self._at != len(self._data):
            raise ValueError(f"must end at byte {self._at} (got {len(self._data)} bytes)")
        return found

    def _take(self, count: int) -> bytes:
        end = self._at + count
        if count < 0 or end > len(self._data):
            raise ValueError(f"must go on at byte {self._at} (got {len(self._data)} bytes)")
        self._at, found = end, self._data[self._at : end]
        return found

    def _value(self, marker: bytes) -> Any:
        if marker == b"{":
            return self._object()
        if marker == b"[":
            return self._array()
        if marker == b"S":
            return self._text()
        if marker in WORDS:
            return WORDS[marker]
        return self._numbers(marker, 1)[0].item()

    def _numbers(self, marker: bytes, count: int) -> np.ndarray[Any, Any]:
        kind = NUMBERS.get(marker.decode("latin-1"))
        if kind is None:
            raise ValueError(f"must have a type at byte {self._at - 1} (got {marker!r})")
        number = np.dtype(kind)
        return np.frombuffer(self._take(number.itemsize * count), number).astype(kind[1:])

    def _count(self) -> int:
        return int(self._numbers(self._take(1), 1)[0])

    def _text(self) -> str:
        return self._take(self._count()).decode()

    def _object(self) -> dict[str, Any]:
        found = {}
        while (marker := self._take(1)) != b"}":
            self._at -= len(marker)
            key = self._text()
            found[key] = self._value(self._take(1))
        return found

    def _array(self) -> Any:
        marker = self._take(1)
        if marker == b"$":
            kind = self._take(1)
            if self._take(1) != b"#":
                raise ValueError(f"must have a length at byte {self._at - 1}")
            return self._numbers(kind, self._count())
        if marker == b"#":
            return [self._value(self._take(1)) for _ in range(self._count())]
        found = []
        while marker != b"]":
            found.append(self._value(marker))
            marker = self._take(1)
        return found
