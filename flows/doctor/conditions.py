"""What must not matter to a stage: each condition as it usually is, and varied."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tasks import environment

THREADS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "POLARS_MAX_THREADS",
    "RAYON_NUM_THREADS",
)
ZONES = Path("/usr/share/zoneinfo")
FAR_EAST = "Pacific/Kiritimati"
"""14 hours ahead of UTC: for most of a day it has another date."""
PLAIN = "C.UTF-8"


@dataclass(frozen=True)
class Condition:
    """One thing that is varied.

    usual, varied    variables of the environment
    instead          how both are told
    advice           what to do about a stage that it matters to
    """

    name: str
    instead: str
    advice: str
    usual: Mapping[str, str] = field(default_factory=dict)
    varied: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.name} ({self.instead})"


FOLDER = Condition(
    "folder",
    "another, deeper one",
    "write no path into an output, and none that starts at the root; declare all that is read",
)
ORDER = Condition(
    "order of files",
    "backwards instead of by name",
    "sort what a folder lists before it is read",
    {"VERBATIM_LISTED": "forwards"},
    {"VERBATIM_LISTED": "backwards"},
)


def all_conditions() -> tuple[Condition, ...]:
    """Give the conditions for this machine."""
    return (_threads(environment.usable_cpus()), _hash_seed(), _zone(), _language(), FOLDER, ORDER)


def variables(conditions: Iterable[Condition], varied: Iterable[Condition]) -> dict[str, str]:
    """Give the variables with some of the conditions varied."""
    chosen = {each.name for each in varied}
    found: dict[str, str] = {}
    for each in conditions:
        found |= each.varied if each.name in chosen else each.usual
    return found


def _threads(usable: int) -> Condition:
    """Compute by all processors, or by two threads where there is one; and by a single one."""
    several = str(max(2, usable))
    return Condition(
        "threads",
        f"1 instead of {several}",
        "pin their number in the code (of the network: models.network.threads: 1), and have sums "
        "of floats taken in one order (torch: deterministic: true; Polars: collect, then group_by)",
        dict.fromkeys(THREADS, several),
        dict.fromkeys(THREADS, "1"),
    )


def _hash_seed() -> Condition:
    return Condition(
        "hash seed",
        "PYTHONHASHSEED 1 instead of 0",
        "sort what comes out of a set, and use hashlib instead of hash()",
        {"PYTHONHASHSEED": "0"},
        {"PYTHONHASHSEED": "1"},
    )


def _zone() -> Condition:
    far = FAR_EAST if (ZONES / FAR_EAST).exists() else "EAST-14"
    return Condition(
        "time zone",
        f"{far} instead of UTC",
        "state the time zone, UTC, wherever a time is read or written",
        {"TZ": "UTC"},
        {"TZ": far},
    )


def _language() -> Condition:
    other = _another_language()
    return Condition(
        "language",
        f"{other} instead of {PLAIN}",
        "name the encoding of each file, and have nothing sorted or written by the locale",
        {"LANG": PLAIN, "LC_ALL": PLAIN},
        {"LANG": other, "LC_ALL": other},
    )


def _another_language() -> str:
    """Choose a locale that is installed, one of people if there is one."""
    try:
        listed = subprocess.run(["locale", "-a"], capture_output=True, check=False).stdout
    except FileNotFoundError:
        return "C"
    names = listed.decode(errors="replace").split()
    of_people = [name for name in names if not name.startswith(("C", "POSIX", "en"))]
    return next(iter([*of_people, *(name for name in names if name.startswith("en"))]), "C")
