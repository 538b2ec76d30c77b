"""What contradicts itself in a claim: all in it is written down twice, and must agree.

What was changed in tags, parameters, metrics or artifacts of a run or version, or made up by hand,
is found here without any file of the data, and before anything is rebuilt.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Mapping
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from tasks import record
from tasks.claim import Claim
from tasks.differences.machines import AFTER_LIBRARIES, BEFORE_LIBRARIES
from tasks.open_run import shown
from tasks.store import GATE, LINEAGE_KEY

OUTPUT, ENVIRONMENT = "output.", "environment."
"""How the names of the tags begin that tell hashes of outputs, and the machine."""

COMMIT = re.compile(r"[0-9a-f]{40}([0-9a-f]{24})?")
"""A commit's full hash."""

LATER_VALUES, LATER_SCORES = (
    ("learner.", "data."),
    ("history/", "baseline/", "gate/", "cost/", "latency_ms/", "system/"),
)
"""How parameters and metrics begin that are held against a rebuild, or come out anew each time."""

MACHINE = (*BEFORE_LIBRARIES, *AFTER_LIBRARIES)
"""What a run has both as tags and in environment.json."""

SHARED = ("dataset_version", "snapshot_md5", "device", "deterministic")
"""Tags that a version has of its run."""


def of(claim: Claim) -> list[str]:
    """Name each contradiction: where, what must stand there, and what does."""
    found = [*_of_settings(claim)]
    if claim.run_id:
        found += [*_of_tags("run", claim.tags, claim), *_of_values(claim), *_of_results(claim)]
        found += [*_of_intent(claim), *_of_machine(claim)]
    if claim.version is not None:
        found += [*_of_tags("version", claim.version.tags, claim), *_of_version(claim)]
    return found


def _must(where: str, wanted: Any, got: Any) -> str:
    return f"{where}: must be {wanted} (got {'nothing' if got is None else got})"


def _of_settings(claim: Claim) -> Iterator[str]:
    """Hold params.yaml against the parameters that dvc.lock says were in use."""
    try:
        written = YAML(typ="safe").load(io.StringIO(claim.params))
    except YAMLError as error:
        yield _must("params.yaml", "YAML", " ".join(str(error).split()))
        return
    for key, wanted in claim.lineage.parameters.items():
        got = _at(written, key)
        if got != wanted:
            yield _must(f"params.yaml: {key}", f"{shown(wanted)} as in dvc.lock", shown(got))


def _settings(claim: Claim) -> Any:
    try:
        return YAML(typ="safe").load(io.StringIO(claim.params))
    except YAMLError:
        return None


def _at(nested: Any, key: str) -> Any:
    for name in key.split("."):
        nested = nested.get(name) if isinstance(nested, dict) else None
    return nested


def _of_tags(whose: str, tags: Mapping[str, str], claim: Claim) -> Iterator[str]:
    """Hold the tags of a run or version against dvc.lock."""
    wanted = {LINEAGE_KEY: claim.lineage.key}
    wanted |= {f"{OUTPUT}{path}": md5 for path, md5 in claim.lineage.outputs.items()}
    known = [name for name in tags if name.startswith(OUTPUT)]
    for name in dict.fromkeys([*wanted, *known]):
        if tags.get(name) != wanted.get(name):
            must = f"{wanted[name]} as in dvc.lock" if name in wanted else "absent as in dvc.lock"
            yield _must(f"{whose}: tag {name}", must, tags.get(name))
    dirty = tags.get("git_dirty")
    if dirty not in {"true", "false"}:
        yield _must(f"{whose}: tag git_dirty", "true or false", dirty)
    commit = tags.get("git_commit", "")
    if commit and not COMMIT.fullmatch(commit):
        yield _must(f"{whose}: tag git_commit", "the full hash of a commit", commit)


def _of_values(claim: Claim) -> Iterator[str]:
    """Hold the parameters of the run against dvc.lock and the manifest."""
    parameters, manifest = claim.lineage.parameters, claim.manifest
    wanted = {
        **parameters,
        **(record.derived_seeds(parameters) if "seed" in parameters else {}),
        **{f"data.{name}": manifest.get(name) for name in ("source", "dataset_version", "rows")},
        "data.snapshot_md5": claim.tags.get("snapshot_md5"),
    }
    for name, value in wanted.items():
        got = claim.values.get(name)
        if got != shown(value):
            yield _must(f"run: parameter {name}", shown(value), got)
    for name in claim.values.keys() - wanted.keys():
        if not name.startswith(LATER_VALUES):
            yield _must(f"run: parameter {name}", "absent as in dvc.lock", claim.values[name])


def _of_results(claim: Claim) -> Iterator[str]:
    """Hold metrics, gate, data and machine of the run against the files that it keeps of them."""
    numbers = {name: value for name, value, _ in record.numbers(claim.metrics)}
    for name in claim.scores.keys() - numbers.keys():
        if not name.startswith(LATER_SCORES):
            must = "absent as in evaluate/metrics.json"
            yield _must(f"run: metric {name}", must, claim.scores[name])
    for name, number in numbers.items():
        if (score := claim.scores.get(name)) != number:
            yield _must(f"run: metric {name}", f"{number} as in evaluate/metrics.json", score)
    gate = "passed" if claim.gate.get("passed") else "failed"
    if claim.tags.get(GATE) != gate:
        yield _must("run: tag gate", f"{gate} as in evaluate/gate.json", claim.tags.get(GATE))
    day, tagged = claim.manifest.get("dataset_version"), claim.tags.get("dataset_version")
    if tagged != day:
        yield _must("run: tag dataset_version", f"{day} as in ingest/manifest.json", tagged)


def _of_intent(claim: Claim) -> Iterator[str]:
    """Hold what the run was for against its name, and the learner that it names against dvc.lock.

    A run that was asked for again has the intent of then, as its name has.
    """
    intent, named = claim.tags.get("intent"), claim.run_name.rsplit("-", 2)[0]
    if intent not in {named, _at(_settings(claim), "register.intent")}:
        yield _must("run: tag intent", f"{named} as in its name", intent)
    learner = claim.lineage.parameters.get("model")
    if claim.tags.get("model") != learner:
        yield _must("run: tag model", f"{learner} as in dvc.lock", claim.tags.get("model"))


def _of_machine(claim: Claim) -> Iterator[str]:
    """Hold what the tags tell of the machine against the file that the run keeps of it."""
    for name, value in claim.environment.items():
        got = claim.tags.get(f"{ENVIRONMENT}{name}")
        if got != value and (got is not None or name in MACHINE):
            yield _must(f"run: tag {ENVIRONMENT}{name}", f"{value} as in environment.json", got)


def _of_version(claim: Claim) -> Iterator[str]:
    """Hold a version against its run; its commit may be a later one of the same content."""
    version = claim.version
    if version is None:
        return
    same = claim.tags.get("git_commit") == version.tags.get("git_commit")
    for name in (*SHARED, *(["git_dirty"] if same else [])):
        if version.tags.get(name) != claim.tags.get(name):
            wanted = f"{claim.tags.get(name)} as of its run"
            yield _must(f"version: tag {name}", wanted, version.tags.get(name))
    if version.source != claim.model_uri:
        must = f"{claim.model_uri}, which its run has logged"
        yield _must("version: model", must, version.source or None)
