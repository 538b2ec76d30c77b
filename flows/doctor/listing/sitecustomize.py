"""Have this Python list the folders of a checkout by name, forwards or backwards.

Many file systems list the same names in the same order wherever they lie, and so hide a stage that
takes them as they come. The folder that `VERBATIM_LISTED_BELOW` names and all below it are listed
as `VERBATIM_LISTED` says, `forwards` or `backwards`; nothing else is touched.
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any, Self


class Entries:
    """The entries of a folder, as `os.scandir` gives them, in another order."""

    def __init__(self, entries: list[Any]) -> None:
        self._entries = iter(entries)

    def __iter__(self) -> Iterator[Any]:
        return self._entries

    def __next__(self) -> Any:
        return next(self._entries)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Do nothing: all was read before."""


def install(
    root: str, listdir: Callable[..., Any], scandir: Callable[..., Any], *, backwards: bool
) -> None:
    """Put our own in the place of `os.listdir` and `os.scandir`."""

    def is_below(path: Any) -> bool:
        if isinstance(path, int):  # an open folder's
            return False
        place = os.path.abspath(os.fsdecode("." if path is None else path))  # noqa: PTH100 - pathlib itself calls us
        return place == root or place.startswith(root + os.sep)

    def list_in_order(path: Any = ".") -> list[Any]:
        found = listdir(path)
        return sorted(found, reverse=backwards) if is_below(path) else list(found)

    def scan_in_order(path: Any = ".") -> Any:
        if not is_below(path):
            return scandir(path)
        with scandir(path) as entries:
            return Entries(sorted(entries, key=lambda entry: entry.name, reverse=backwards))

    os.listdir = list_in_order
    os.scandir = scan_in_order


def load_hidden(here: str) -> None:
    """Import the `sitecustomize` that this one hides, if there is one."""
    others = [path for path in sys.path if path != here]
    found = importlib.machinery.PathFinder.find_spec("sitecustomize", others)
    if found is not None and found.loader is not None:
        found.loader.exec_module(importlib.util.module_from_spec(found))


if __name__ == "sitecustomize":  # imported by Python itself, and by nobody else
    is_backwards = os.environ["VERBATIM_LISTED"] == "backwards"
    install(os.environ["VERBATIM_LISTED_BELOW"], os.listdir, os.scandir, backwards=is_backwards)
    load_hidden(os.path.dirname(__file__))  # noqa: PTH120
