"""Say how two outputs differ, in the words of what they hold: a column, a key, a tree, a tensor.

There is a module for each kind of file. It reads one (`read`) and says how two differ whose bytes
do (`compare`), what was got always told against what was expected: "0.81 instead of 0.83".
"""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

from polars.exceptions import PanicException

from tasks.differences import documents, plain, tables, tensors, trees
from tasks.differences.machines import causes

__all__ = ["causes", "first"]

KINDS: dict[str, ModuleType] = {
    ".json": documents,
    ".parquet": tables,
    ".safetensors": tensors,
    ".ubj": trees,
}
"""What is read by its meaning, by suffix; anything else is lines of text, or bytes."""

LONGEST_REASON = 120
MOST_NAMED = 3
"""So many of the other files that differ are named."""


def first(expected: Path, got: Path) -> str | None:
    """Say in one line what differs first in two files or folders, by sorted path; None if nothing.

    A damaged file is told as such. Never raises for what the files hold.
    """
    if not (expected.is_dir() and got.is_dir()):
        return _of_two(expected, got)
    names = sorted({*_names(expected), *_names(got)})
    differing = [name for name in names if not _equal(expected / name, got / name)]
    if not differing:
        return None
    of_first = _of_two(expected / differing[0], got / differing[0])
    return f"{differing[0]}: {of_first}{_others(differing[1:])}"


def _others(names: list[str]) -> str:
    if not names:
        return ""
    more = f", and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return f" (also {', '.join(names[:MOST_NAMED])}{more})"


def _names(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def _equal(expected: Path, got: Path) -> bool:
    if not (expected.is_file() and got.is_file()):
        return False
    try:
        return plain.position(expected, got) is None
    except OSError:
        return False


def _of_two(expected: Path, got: Path) -> str | None:
    """Say what differs in two files; one without a suffix, as in a cache, is of the other's."""
    if expected.is_dir() != got.is_dir() and expected.exists() and got.exists():
        return "a folder instead of a file" if got.is_dir() else "a file instead of a folder"
    if not expected.exists():
        return "is there, and is not expected" if got.exists() else None
    if not got.exists():
        return "is missing"
    try:
        if plain.position(expected, got) is None:
            return None
        kind = KINDS.get(got.suffix.lower()) or KINDS.get(expected.suffix.lower())
        return plain.compare(expected, got) if kind is None else _told(kind, expected, got)
    except OSError as error:
        return f"cannot be read ({error.strerror or error})"


def _told(kind: ModuleType, expected: Path, got: Path) -> str:
    """Say what differs by meaning; by the bytes if one of both cannot be read."""
    read = []
    for path, whose in ((expected, "the expected file is"), (got, "is")):
        try:
            read.append(kind.read(path))
        except OSError:
            raise
        except (Exception, PanicException) as error:  # noqa: BLE001 - whatever a reader raises
            return f"{whose} no readable {kind.NAME} ({_reason(error)}); {_bytes(expected, got)}"
    try:
        return str(kind.compare(*read))
    except (Exception, PanicException) as error:  # noqa: BLE001 - as of values nobody can compare
        return f"cannot be compared as {kind.NAME} ({_reason(error)}); {_bytes(expected, got)}"


def _bytes(expected: Path, got: Path) -> str:
    return plain.compare_bytes(expected, got)


def _reason(error: BaseException) -> str:
    lines = str(error).strip().splitlines() or [""]
    said = f"{type(error).__name__}: {lines[0]}"
    return said if len(said) <= LONGEST_REASON else said[: LONGEST_REASON - 1] + "…"
