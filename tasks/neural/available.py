"""How much memory this process can still get before Linux ends it or another."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

GROUPS = Path("/sys/fs/cgroup")
MEMBERSHIP = Path("/proc/self/cgroup")

FILES = {
    "": ("memory.max", "memory.current", "inactive_file"),
    "memory": ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
}
"""Version two and one of control groups: files of limit and use, key of the cache in the use."""


def available(membership: Path = MEMBERSHIP, groups: Path = GROUPS) -> int:
    """Give the bytes that are free, or that the cache of files would make free.

    That is what the machine has, or what the control group of a container lets it have of that.
    """
    import psutil  # type: ignore[import-untyped]

    return min([int(psutil.virtual_memory().available), *_left(membership, groups)])


def _left(membership: Path, groups: Path) -> Iterator[int]:
    """Give what each control group that this process is in leaves to it, where it has a limit."""
    lines = membership.read_text().splitlines() if membership.exists() else []
    for _, kinds, path in (line.split(":", 2) for line in lines):
        kind = "memory" if "memory" in kinds.split(",") else kinds
        if kind not in FILES:
            continue
        root = groups / kind
        own = root / path.lstrip("/")
        # In a container the root is its own group, and the path may be of the machine's.
        for folder in {root, *(each for each in (own, *own.parents) if root in each.parents)}:
            yield from _left_by(folder, *FILES[kind])


def _left_by(folder: Path, limit: str, use: str, cache: str) -> Iterator[int]:
    try:
        most, used = (folder / limit).read_text(), int((folder / use).read_text())
        kept = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
    except OSError:
        return
    if most.strip() != "max":
        yield max(0, int(most) - used + int(kept.get(cache, 0)))
