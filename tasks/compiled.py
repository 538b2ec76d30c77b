"""What Python has compiled beside code that it imports: whether that is the code beside it.

A module in `__pycache__` runs instead of its source. One that was put there by hand would run in a
served model whose every source is as it was.
"""

from __future__ import annotations

import importlib.util
import marshal
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import CodeType

from tasks.content import COMPILED

HEADER, UNCHECKED = 16, 0b01
"""Bytes before the code, of which the second four are flags; what they are if the source is not
looked at any more."""

LEVEL = re.compile(r"\.opt-([12])\.pyc$")


def is_compiled(path: Path) -> bool:
    """Tell whether this is what Python itself makes of a source, where Python puts it."""
    if path.parent.name != COMPILED or path.suffix != ".pyc":
        return False
    try:
        importlib.util.source_from_cache(str(path))
    except ValueError:
        return False
    return True


def faults(folder: Path) -> Iterator[str]:
    """Name the compiled modules below a folder that are not what their source would be.

    Of those that another Python has compiled, only the ones are that it would believe blindly.
    """
    for path in sorted(folder.rglob("*.pyc")):
        if path.is_file() and is_compiled(path) and (why := _unlike(path)) is not None:
            yield f"{path.relative_to(folder)}: {why}"


def _unlike(path: Path) -> str | None:
    source, data = Path(importlib.util.source_from_cache(str(path))), path.read_bytes()
    if not source.is_file():
        return f"is compiled of no source: there is no {source.name}"
    if int.from_bytes(data[4:8], "little") == UNCHECKED:
        return f"runs whatever {source.name} says: it is marked as not to be checked"
    if data[:4] != importlib.util.MAGIC_NUMBER:
        return None
    level = LEVEL.search(path.name)
    if _code(data[HEADER:]) != _compiled(source, int(level[1]) if level else 0):
        return f"is not what {source.name} compiles to"
    return None


def _code(data: bytes) -> CodeType | None:
    """Read compiled code, which is not run; None if it is none."""
    try:
        found = marshal.loads(data)  # noqa: S302 - to be compared, never run
    except (ValueError, EOFError, TypeError):
        return None
    return found if isinstance(found, CodeType) else None


def _compiled(source: Path, level: int) -> CodeType | str:
    """Compile a source as Python does when it imports it; a text if that cannot be."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return compile(source.read_bytes(), "", "exec", dont_inherit=True, optimize=level)
        except (SyntaxError, ValueError) as error:
            return str(error)
