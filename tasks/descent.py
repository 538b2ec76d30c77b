"""What a model descends from, as plain data: run, commit, parameters, stages, data files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tasks import inventory
from tasks.claim import Claim
from tasks.inventory import Content
from tasks.lineage import Lineage, flat


def of(claim: Claim) -> dict[str, Any]:
    """Give all that is recorded of where a model comes from, for JSON and for people."""
    lineage = claim.lineage
    its = inventory.joined(claim.tags) or inventory.listed(lineage, claim.manifest, None)
    return {
        "model": _model(claim),
        "run": _run(claim),
        "commit": {"sha": claim.commit, "dirty": claim.is_dirty, "author": _tag(claim, "author")},
        "lineage_key": lineage.key,
        "environment": {
            name.removeprefix("environment."): text
            for name, text in claim.tags.items()
            if name.startswith("environment.")
        },
        "stages": [_stage(name, lineage, its) for name in lineage.causes],
        "data": _data(claim.manifest, its),
    }


def _model(claim: Claim) -> dict[str, Any] | None:
    if claim.version is None:
        return None
    return {
        "name": claim.model_name,
        "version": claim.version.number,
        "passed_gate": claim.version.passed,
        "stored": claim.model_uri,
    }


def _run(claim: Claim) -> dict[str, Any] | None:
    if not claim.run_id:
        return None
    return {"name": claim.run_name, "id": claim.run_id, "recorded_ms": claim.recorded}


def _tag(claim: Claim, name: str) -> str:
    return claim.tags.get(name, "")


def _stage(name: str, lineage: Lineage, its: list[Content]) -> dict[str, Any]:
    cause = lineage.causes[name]
    return {
        "stage": name,
        "command": cause["cmd"],
        "parameters": {
            key: value for branch in cause["params"].items() for key, value in flat(*branch)
        },
        "sources": [_file(path, md5, its) for path, md5 in cause["deps"].items()],
        "reads": {path: lineage.outputs[path] for path in lineage.reads.get(name, [])},
        "outputs": [
            _file(path, lineage.outputs[path], its) for path in lineage.makes.get(name, [])
        ],
    }


def _file(path: str, md5: str, its: list[Content]) -> dict[str, Any]:
    """Give a file with its hash; of a folder the files in it too, as far as they are recorded."""
    inner = {
        each.path: each.hashes[0]
        for each in its
        if each.path.startswith(f"{path}/") and each.role != "data"
    }
    return {"path": path, "hash": md5, **({"files": inner} if inner else {})}


def _data(manifest: Mapping[str, Any], its: list[Content]) -> dict[str, Any] | None:
    """Give the files of the lake by their addresses, with every hash that is known of them."""
    if not manifest:
        return None
    source = str(manifest["source"])
    known = {each.path: each.hashes for each in its}
    files = []
    for file in manifest.get("files", []):
        path = inventory.address(source, file["path"])
        begins = [text for text in known.get(path, ()) if text not in _shortened(file)]
        files.append({**file, "path": path, **({"md5_begins": begins[0]} if begins else {})})
    named = ("source", "dataset_version", "rows", "first_event", "last_event")
    return {**{name: manifest.get(name) for name in named}, "files": files}


def _shortened(file: Mapping[str, Any]) -> set[str]:
    return {inventory.short(str(file[kind])) for kind in ("sha256", "etag") if kind in file}
