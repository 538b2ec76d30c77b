"""What a registered version, or a run, says of where it comes from: its claim.

`prove` tests a claim, `lineage` tells it. Nothing here is believed that is not written down twice.
It is read without importing MLflow where that can be, which takes longer than all the rest.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks import files, lineage, rows, served, store, tracking
from tasks.errors import ParamsError, StageError, TemporaryError
from tasks.lineage import Lineage
from tasks.registry import Version, looked_at
from tasks.rows import Found, Rows
from tasks.served import Served
from tasks.store import GATE, LINEAGE_KEY

EXPERIMENT_COMMIT = "dvc_experiment_commit"
"""Tag of a run that a deployment has made: the commit that holds it with its parameters."""

RECORDED = (
    "params.yaml",
    "dvc.yaml",
    "dvc.lock",
    "environment.json",
    "ingest/manifest.json",
    "evaluate/metrics.json",
    "evaluate/gate.json",
)
"""Artifacts of a run that say where it comes from."""

ALIAS, VERSION = r"(.+)@([A-Za-z0-9_-]+)", r"(.+)/(\d+)"
"""How a version is named: MODEL@ALIAS, MODEL/NUMBER."""

LONGEST_REASON = 200

UNREADABLE = (ValueError, LookupError, TypeError, AttributeError)
"""What `read_artifacts` raises of texts that say something else."""

NEXT = "next: python -m flows ledger, or `mlflow ui`, to see what there is"


class UnreadableError(StageError):
    """What a run keeps of where it comes from was changed, so that nobody can read it."""


@dataclass(frozen=True)
class Claim:
    """Where a run of MLflow is said to come from, and its version if it has one.

    commit       that holds code, parameters and `dvc.lock`; empty if none is named
    is_dirty     whether tracked files differed from that commit
    params       text of params.yaml
    graph, lock  content of dvc.yaml and dvc.lock
    lineage      what the lock says
    manifest     of the snapshot: the files of the lake with their hashes
    metrics      as `evaluate` wrote them, and what the `gate` said to them
    environment  what it was computed on: see `environment.describe`; and every installed package
    tags         of the run; `values` its parameters; `scores` its metrics, the last of each
    model_uri    what MLflow gives the stored model by; None if the run has logged none
    recorded     when the run was begun, in milliseconds; 0 if unknown
    """

    run_id: str
    run_name: str
    version: Version | None
    model_name: str | None
    commit: str
    is_dirty: bool
    params: str
    graph: dict[str, Any]
    lock: dict[str, Any]
    lineage: Lineage
    manifest: dict[str, Any]
    metrics: dict[str, Any]
    gate: dict[str, Any]
    environment: dict[str, str]
    tags: Mapping[str, str]
    values: Mapping[str, str]
    scores: Mapping[str, float]
    model_uri: str | None
    recorded: int = 0

    @property
    def title(self) -> str:
        """What people call it: the version, or the run."""
        if self.version is None:
            return self.run_name
        return f"{self.model_name} version {self.version.number}"


def of_version(model_name: str, number: int) -> Claim:
    """Read the claim of a version.

    Raises ParamsError for an unknown version, AbsentError if its run or what that must hold is
    gone, TemporaryError if the store does not answer.
    """
    with looked_at(model_name) as registry:
        version = registry.version(number)
    return _read(version.run_id, model_name, version)


def of_alias(model_name: str, alias: str) -> Claim:
    """Read the claim of the version that an alias points to; raises StageError if there is none."""
    with looked_at(model_name) as registry:
        number = registry.alias(alias)
        if number is None:
            known = ", ".join(sorted(registry.aliases)) or "none"
            raise StageError(
                f"{model_name}@{alias}: must be an alias of {model_name}: {known}\n{NEXT}"
            )
    return of_version(model_name, number)


def of_run(run: str, model_name: str) -> Claim:
    """Read the claim of the newest finished run with this name or id; its version, if it has one.

    Raises StageError if there is no such run.
    """
    with store.reachable():
        run_id = tracking.named(run)
    if run_id is None:
        raise StageError(f"{run}: must be the name or id of a finished run (got none)\n{NEXT}")
    with looked_at(model_name) as registry:
        return _read(run_id, model_name, registry.version_of(run_id))


def of_id(run_id: str, model_name: str) -> Claim:
    """Read the claim of the run with this id, whatever others are called; its version, if any."""
    with suppress(*rows.FAULTS), _reader() as reader:
        return _newest(reader, reader.run(run_id), model_name)
    with looked_at(model_name) as registry:
        return _read(run_id, model_name, registry.version_of(run_id))


def find(target: str, model_name: str) -> Claim:
    """Read what is named as MODEL@ALIAS, MODEL/VERSION, or by the name or id of a run.

    model_name  of the registered model that a run is looked up in
    """
    if (at_hand := _at_hand(target, model_name)) is not None:
        return at_hand
    if (found := re.fullmatch(ALIAS, target)) is not None:
        return of_alias(found[1], found[2])
    if (found := re.fullmatch(VERSION, target)) is not None:
        return of_version(found[1], int(found[2]))
    return of_run(target, model_name)


def found(target: str, model_name: str) -> Claim | None:
    """Read what is named as a version or run; None if it is neither, but may be a revision of git.

    Raises what `find` does if it is one and cannot be read: AbsentError, UnreadableError,
    TemporaryError; and for an unknown version or alias of a model that is registered.
    """
    try:
        return find(target, model_name)
    except (tracking.AbsentError, TemporaryError, UnreadableError):
        raise
    except (StageError, ParamsError):
        meant = version_meant(target)
        if meant is not None and _is_registered(meant[0]):
            raise
    return None


def _is_registered(model_name: str) -> bool:
    with looked_at(model_name) as registry:
        return bool(registry.versions())


def version_meant(target: str) -> tuple[str, str] | None:
    """Give model, and alias or number, of what is named like a version; None if it is a run."""
    found = re.fullmatch(ALIAS, target) or re.fullmatch(VERSION, target)
    return None if found is None else (found[1], found[2])


@contextmanager
def _reader() -> Iterator[Rows | Served]:
    """Open what answers without MLflow.

    Raises LookupError for a store that only it can ask, TemporaryError if a server does not answer.
    """
    file, address = store.database(), store.uri()
    if file is not None:
        with rows.opened(file) as tables:
            yield tables
    elif address.startswith("http"):
        with store.reachable(), served.opened(address) as server:
            yield server
    else:
        raise LookupError(address)


def _at_hand(target: str, model_name: str) -> Claim | None:
    """Read it without MLflow; None if MLflow must be asked, or must say what is wrong."""
    try:
        with _reader() as reader:
            if (named := re.fullmatch(ALIAS, target)) is not None:
                return _of_version(reader, named[1], reader.alias(named[1], named[2]))
            if (named := re.fullmatch(VERSION, target)) is not None:
                return _of_version(reader, named[1], int(named[2]))
            return _newest(reader, reader.named(target), model_name)
    except rows.FAULTS:
        return None


def _newest(reader: Rows | Served, run: Found, model_name: str) -> Claim:
    """Read the claim of the newest version of a run, or of the run if there is none."""
    number = reader.newest(model_name, run.run_id)
    if number is not None:
        return _of_version(reader, model_name, number)
    return _of_run(reader, run, None, None)


def _of_version(reader: Rows | Served, model_name: str, number: int) -> Claim:
    run_id, source, tags = reader.version(model_name, number)
    run = reader.run(run_id)
    gate = run.tags.get(GATE)
    version = Version(
        number=number,
        run_id=run_id,
        lineage_key=tags.get(LINEAGE_KEY, ""),
        dataset_version=tags.get("dataset_version", ""),
        passed=None if gate is None else gate == "passed",
        tags=tags,
        source=source,
    )
    return _of_run(reader, run, model_name, version)


def _of_run(
    reader: Rows | Served, run: Found, model_name: str | None, version: Version | None
) -> Claim:
    return _claim(
        {name: reader.text(run.run_id, name) for name in RECORDED},
        run_id=run.run_id,
        run_name=run.name,
        recorded=run.recorded,
        version=version,
        model_name=model_name,
        tags=run.tags,
        values=run.values,
        scores=run.scores,
        model_uri=f"models:/{run.model_id}" if run.model_id else None,
    )


def _read(run_id: str, model_name: str, version: Version | None) -> Claim:
    with store.reachable(), tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        run = tracking.read_run(run_id)
        tracking.fetch(run_id, RECORDED, folder)
        models = run.outputs.model_outputs if run.outputs else []
        return _claim(
            {name: (folder / name).read_text("utf-8") for name in RECORDED},
            run_id=run_id,
            run_name=run.info.run_name,
            recorded=run.info.start_time,
            version=version,
            model_name=None if version is None else model_name,
            tags=run.data.tags,
            values=run.data.params,
            scores=run.data.metrics,
            model_uri=f"models:/{models[0].model_id}" if models else None,
        )


def _claim(texts: Mapping[str, str], *, tags: Mapping[str, str], **told: Any) -> Claim:
    """Complete what a store tells by the texts of the artifacts; raises UnreadableError."""
    try:
        read = read_artifacts(texts)
    except UNREADABLE as error:
        raise UnreadableError(
            f"run {told['run_id']}: what it keeps must be readable "
            f"(got {type(error).__name__}: {str(error)[:LONGEST_REASON]})"
        ) from error
    return Claim(
        commit=tags.get(EXPERIMENT_COMMIT) or tags.get("git_commit", ""),
        is_dirty=tags.get("git_dirty") == "true" and EXPERIMENT_COMMIT not in tags,
        **read,
        tags=tags,
        **told,
    )


def read_artifacts(texts: Mapping[str, str]) -> dict[str, Any]:
    """Read what the artifacts of a run say, by their names; what is not among them is empty.

    Raises one of `UNREADABLE` if they say something else.
    """
    lock, graph = files.parsed_yaml(texts["dvc.lock"]), files.parsed_yaml(texts["dvc.yaml"])
    said = {
        field: json.loads(texts.get(name, "{}"))
        for field, name in (
            ("manifest", "ingest/manifest.json"),
            ("metrics", "evaluate/metrics.json"),
            ("gate", "evaluate/gate.json"),
            ("environment", "environment.json"),
        )
    }
    for name, value in {"dvc.lock": lock, "dvc.yaml": graph, **said}.items():
        if not isinstance(value, dict):
            raise TypeError(f"{name} must be a mapping, and is a {type(value).__name__}")
    _check_files(said["manifest"].get("files", []))
    return {
        "params": texts["params.yaml"],
        "graph": graph,
        "lock": lock,
        "lineage": lineage.told(lock, graph),
        **said,
    }


def _check_files(listed: Any) -> None:
    """See that a manifest lists files by path and hash; raises TypeError or LookupError."""
    if not isinstance(listed, list):
        raise TypeError(f"ingest/manifest.json: files must be a list (got {listed!r})")
    for each in listed:
        known = (each["path"], each.get("sha256", ""), each.get("etag", ""))
        if not all(isinstance(value, str) for value in known):
            raise TypeError(f"ingest/manifest.json: a file must have texts for {known!r}")
        if "sha256" not in each and "etag" not in each:
            raise LookupError(f"ingest/manifest.json: {each['path']} must have sha256 or etag")
