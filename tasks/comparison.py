"""Why two results differ: parameters, data, code, commands, environment; nothing that is equal."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tasks import inventory
from tasks.claim import Claim
from tasks.differences.machines import AFTER_LIBRARIES
from tasks.environment import LOCK
from tasks.inventory import Content
from tasks.lineage import is_data

Pair = tuple[Any, Any]
"""A value of the one and of the other; None where there is none."""

Differences = dict[str, dict[str, Pair]]
"""What differs, by group: `parameters`, `data`, `code`, `commands`, `environment`, `outputs`."""


def of(one: Claim, other: Claim) -> Differences:
    """Explain why two results differ; empty if they are the same content.

    `outputs` are given only where nothing that determines them differs: then it is the environment,
    or a stage that is not stable.
    """
    if one.lineage == other.lineage:
        return {}
    causes = {
        "parameters": _differing(one.lineage.parameters, other.lineage.parameters),
        "data": _data(one, other),
        "code": _code(one, other),
        "commands": _differing(_commands(one), _commands(other)),
    }
    environment = {"environment": _environment(one, other)}
    outputs = {"outputs": _differing(one.lineage.outputs, other.lineage.outputs)}
    same = one.lineage.key == other.lineage.key
    found = {**causes, **environment, **(outputs if same else {})}
    return {group: pairs for group, pairs in found.items() if pairs}


def _differing(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Pair]:
    names = [*one, *(name for name in other if name not in one)]
    pairs = {name: (one.get(name), other.get(name)) for name in names}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def _commands(claim: Claim) -> dict[str, str]:
    return {stage: cause["cmd"] for stage, cause in claim.lineage.causes.items()}


def _data(one: Claim, other: Claim) -> dict[str, Pair]:
    """Compare what is no code: the snapshot with each file of the lake, suites and profiles."""
    found = _differing(_sources(one, data=True), _sources(other, data=True))
    if one.manifest and other.manifest:  # of what is not recorded there is none
        found |= _differing(_snapshot(one), _snapshot(other))
        found |= _differing(_lake(one), _lake(other))
    return found


def _sources(claim: Claim, *, data: bool) -> dict[str, str]:
    """Give sources with their hashes: those that are data, or those that are code."""
    lake = claim.manifest.get("source")
    return {
        path: md5
        for path, md5 in claim.lineage.sources.items()
        if path != str(LOCK) and (path == lake or is_data(path)) == data
    }


def _snapshot(claim: Claim) -> dict[str, Any]:
    named = ("dataset_version", "rows", "first_event", "last_event")
    return {name: claim.manifest[name] for name in named if name in claim.manifest}


def _lake(claim: Claim) -> dict[str, str]:
    return {
        inventory.address(claim.manifest["source"], file["path"]): file.get("sha256", "")
        for file in claim.manifest.get("files", [])
    }


def _code(one: Claim, other: Claim) -> dict[str, Pair]:
    """Compare code; of a folder the files inside, by what the runs recorded, else by git."""
    found = _differing(_sources(one, data=False), _sources(other, data=False))
    inner, others = _code_inside(one), _code_inside(other)
    named: dict[str, Pair] = {}
    for path, pair in found.items():
        below = {
            name: each
            for name, each in _differing(inner, others).items()
            if name.startswith(f"{path}/")
        }
        named |= below or _by_git(one, other, path) or {path: pair}
    return named


def _code_inside(claim: Claim) -> dict[str, str]:
    its: list[Content] = inventory.joined(claim.tags)
    return {each.path: each.hashes[0] for each in its if each.role == "source"}


def _by_git(one: Claim, other: Claim, path: str) -> dict[str, Pair]:
    """Ask git which files below a path differ; nothing if it does not have both commits."""
    if Path(path).suffix or one.is_dirty or other.is_dirty or not (one.commit and other.commit):
        return {}
    trees = [_tree(claim.commit, path) for claim in (one, other)]
    return _differing(*trees) if all(trees) else {}


def _tree(commit: str, path: str) -> dict[str, str]:
    command = ["git", "ls-tree", "-r", "--full-tree", commit, "--", path]
    asked = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = [line.split("\t", 1) for line in asked.stdout.splitlines()]
    return {name: told.split()[2] for told, name in lines}


def _environment(one: Claim, other: Claim) -> dict[str, Pair]:
    """Compare lock, packages, and of the machine what both records tell."""
    lock, told = str(LOCK), "lock_sha256"
    pair = one.lineage.sources.get(lock), other.lineage.sources.get(lock)
    found = {lock: pair} if pair[0] != pair[1] else {}
    if not (one.environment and other.environment):
        return found
    untold = (one.environment.keys() ^ other.environment.keys()) & AFTER_LIBRARIES.keys()
    differing = _differing(one.environment, other.environment)
    kept = differing.keys() - untold - {told}
    return {**found, **{name: each for name, each in differing.items() if name in kept}}
