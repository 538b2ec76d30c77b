"""How two files differ as lines of text, or as bytes."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np

CHUNK = 1 << 20
SAMPLE = 4096
"""So many bytes around the difference must be text for a file to be told by its lines."""
BEFORE, AFTER = 20, 40
"""How many bytes of a line are shown around the first that differs."""
CONTINUED = bytes(range(0x80, 0xC0))
"""The bytes of UTF-8 that go on with a character."""


def position(expected: Path, got: Path) -> int | None:
    """Give the position of the first byte that differs; None if all are equal.

    Where one file ends early it is that file's length.
    """
    seen = 0
    with expected.open("rb") as one, got.open("rb") as other:
        while True:
            here, there = one.read(CHUNK), other.read(CHUNK)
            if here != there:
                length = min(len(here), len(there))
                unequal = np.frombuffer(here, np.uint8, length) != np.frombuffer(
                    there, np.uint8, length
                )
                return seen + (int(unequal.argmax()) if unequal.any() else length)
            if not here:
                return None
            seen += len(here)


def compare(expected: Path, got: Path) -> str:
    """Say which line differs first, and what stands there; of other than text, which byte."""
    at = position(expected, got)
    if at is None:
        return "equal"
    if not (_is_text(expected, at) and _is_text(got, at)):
        return compare_bytes(expected, got)
    line, start = _line(expected, at)
    return f"line {line}: {_excerpt(got, start, at)} instead of {_excerpt(expected, start, at)}"


def compare_bytes(expected: Path, got: Path) -> str:
    """Say which byte differs first, counted from 0, and how long the files are."""
    at = position(expected, got)
    if at is None:
        return "equal"
    sizes = [path.stat().st_size for path in (got, expected)]
    lengths = f"{sizes[0]} bytes" + (f" instead of {sizes[1]}" if sizes[0] != sizes[1] else "")
    if at in sizes:
        return f"{lengths}, and the same up to there" if at else lengths
    one, other = (_read(path, at, 1)[0] for path in (got, expected))
    return f"byte {at} is {one:#04x} instead of {other:#04x} ({lengths})"


def _read(path: Path, start: int, count: int) -> bytes:
    with path.open("rb") as file:
        file.seek(start)
        return file.read(count)


def _is_text(path: Path, at: int) -> bool:
    """Tell whether the file's head and what lies around a byte are UTF-8 without zeros."""
    for start in (0, max(0, at - SAMPLE // 2)):
        found = _read(path, start, SAMPLE)
        if b"\0" in found or _broken(found):
            return False
    return True


def _broken(found: bytes) -> bool:
    """Tell whether bytes are no UTF-8, but for a character cut off at either end."""
    whole = found.lstrip(CONTINUED)
    try:
        whole.decode()
    except UnicodeDecodeError as error:
        return error.start < len(whole) - 3
    return len(found) - len(whole) > 3  # noqa: PLR2004 - what a character has besides its first byte


def _line(path: Path, at: int) -> tuple[int, int]:
    """Give the number of the line in which a byte lies, from 1, and where that line starts."""
    number, start = 1, 0
    with path.open("rb") as file:
        for begin, end in pairwise([*range(0, at, CHUNK), at]):
            found = file.read(end - begin)
            number += found.count(b"\n")
            if (last := found.rfind(b"\n")) >= 0:
                start = begin + last + 1
    return number, start


def _excerpt(path: Path, start: int, at: int) -> str:
    """Quote a line around the byte `at`; what is left out is marked."""
    begin = max(start, at - BEFORE)
    found = _read(path, begin, at - begin + AFTER)
    if not found[at - begin :]:
        return "the end" if at > start else "no such line"
    shown, newline, _ = found[: at - begin + AFTER].partition(b"\n")
    if at - begin > len(shown):  # the newline itself lies before the difference
        shown = found
    text = repr(shown.lstrip(CONTINUED).decode(errors="ignore"))
    return ("…" if begin > start else "") + text + ("" if newline or len(found) < AFTER else "…")
