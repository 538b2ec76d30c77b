"""The hash of a file or folder as DVC takes it: MD5, of a folder that of its list of files.

A copy anywhere, in MLflow or on a disk, is so held against `dvc.lock` without DVC.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

FOLDER = ".dir"
"""How the hash of a folder ends."""

COMPILED = "__pycache__"
"""What Python makes of code by itself, and DVC is told to ignore."""


def of(path: Path) -> str:
    """Hash a file or a folder; raises FileNotFoundError if it is neither."""
    if path.is_dir():
        return of_listing(listing(path))
    return digest(path, "md5")


def digest(path: Path, algorithm: str) -> str:
    """Hash a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()


def listing(folder: Path) -> dict[str, str]:
    """Hash each file below a folder, by its relative path."""
    found = sorted(each for each in folder.rglob("*") if each.is_file())
    return {each.relative_to(folder).as_posix(): of(each) for each in found}


def code(folder: Path) -> dict[str, str]:
    """Hash each file below a folder but what Python has compiled, by its relative path."""
    return {
        name: md5
        for name, md5 in listing(folder).items()
        if COMPILED not in name.split("/") and not name.endswith(".pyc")
    }


def of_listing(files: Mapping[str, str]) -> str:
    """Hash a folder by the hashes of its files."""
    listed = [{"md5": files[name], "relpath": name} for name in sorted(files)]
    return hashlib.md5(json.dumps(listed).encode(), usedforsecurity=False).hexdigest() + FOLDER


def listed(text: bytes) -> dict[str, str]:
    """Read the list of a folder's files as DVC keeps it; raises ValueError if it is none."""
    try:
        return {str(each["relpath"]): str(each["md5"]) for each in json.loads(text)}
    except (KeyError, TypeError) as error:
        raise ValueError(f"no list of files: {error}") from error
