"""The environment that a lock names: whether it is this one, or a new one made of it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from importlib.metadata import distributions
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from tasks.errors import StageError

PINNED = re.compile(r"^[A-Za-z0-9][^\\#\n]*", re.MULTILINE)
MOST_NAMED = 8


def pinned(lock: str) -> list[Requirement]:
    """Read what a lock pins for this machine and Python."""
    found = []
    for line in PINNED.findall(lock):
        try:
            requirement = Requirement(line.strip())
        except InvalidRequirement:
            continue  # an option of pip
        if requirement.marker is None or requirement.marker.evaluate():
            found.append(requirement)
    return found


def installed() -> dict[str, str]:
    """Give the version of each package of this Python; of one that is there twice, the first."""
    found: dict[str, str] = {}
    for each in distributions():
        found.setdefault(canonicalize_name(each.metadata["Name"]), each.version)
    return found


def unlike(lock: str, found: Mapping[str, str]) -> list[str]:
    """Name the packages that are not installed as a lock pins them; others may be there besides."""
    faults = []
    for each in pinned(lock):
        got = found.get(canonicalize_name(each.name))
        if got is None or not each.specifier.contains(got, prereleases=True):
            faults.append(f"{each.name}: must be {each.specifier} (got {got or 'none'})")
    return faults


def few(faults: list[str]) -> list[str]:
    """Name some, and count the others."""
    more = len(faults) - MOST_NAMED
    return faults[:MOST_NAMED] + ([f"and {more} more packages"] if more > 0 else [])


def make(folder: Path, lock: Path) -> Path:
    """Make an environment of exactly what a lock pins, hashes checked; give its Python.

    Raises StageError if that cannot be installed.
    """
    python = folder / "bin" / "python"
    settings = {name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"}
    uv = Path(sys.executable).parent / "uv"
    for command in (
        [sys.executable, "-m", "venv", "--without-pip", str(folder)],
        [str(uv), "pip", "sync", "--quiet", "--require-hashes", "--python", str(python), str(lock)],
    ):
        done = subprocess.run(command, env=settings, capture_output=True, text=True, check=False)
        if done.returncode:
            said = (done.stderr.strip() or done.stdout.strip())[-600:]
            raise StageError(
                f"{lock.name}: must be installable as it stood at that commit (got {said})\n"
                "next: see that the packages can be reached, and try again"
            )
    return python
