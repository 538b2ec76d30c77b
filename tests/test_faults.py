"""A claim that was changed in one place contradicts another."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from left_behind import ASKED, MLFLOW_WARNS

from tasks import claim as claims
from tasks import faults, store
from tasks.claim import Claim, UnreadableError

pytestmark = MLFLOW_WARNS
MODEL = ASKED["model_name"]


@pytest.fixture
def claim(here: Path) -> Claim:
    return claims.of_version(MODEL, 1)


def tagged(claim: Claim, name: str, value: str) -> Claim:
    return replace(claim, tags={**claim.tags, name: value})


def version_tagged(claim: Claim, name: str, value: str) -> Claim:
    version = replace(claim.version, tags={**claim.version.tags, name: value})
    return replace(claim, version=version)


CHANGES: dict[str, tuple[Callable[[Claim], Claim], str]] = {
    "lineage of the run": (lambda it: tagged(it, "lineage_key", "0"), "run: tag lineage_key"),
    "output of the run": (
        lambda it: tagged(it, "output.data/train", "0"),
        "run: tag output.data/train: must be",
    ),
    "an output made up": (
        lambda it: tagged(it, "output.data/more", "0"),
        "run: tag output.data/more: must be absent as in dvc.lock (got 0)",
    ),
    "gate": (lambda it: tagged(it, "gate", "failed"), "run: tag gate: must be passed"),
    "machine": (lambda it: tagged(it, "environment.cpu", "8086"), "run: tag environment.cpu"),
    "commit": (lambda it: tagged(it, "git_commit", "--all"), "must be the full hash of a commit"),
    "day": (lambda it: tagged(it, "dataset_version", "1999-01-01"), "run: tag dataset_version"),
    "snapshot": (
        lambda it: version_tagged(it, "snapshot_md5", "0"),
        "version: tag snapshot_md5: must be",
    ),
    "output of the version": (
        lambda it: version_tagged(it, "output.data/train", "0"),
        "version: tag output.data/train: must be",
    ),
    "parameter": (
        lambda it: replace(it, values={**it.values, "models.trees.max_depth": "9"}),
        "run: parameter models.trees.max_depth: must be 2 (got 9)",
    ),
    "metric": (
        lambda it: replace(it, scores={**it.scores, "test/roc_auc": 0.99}),
        "run: metric test/roc_auc: must be 0.75 as in evaluate/metrics.json (got 0.99)",
    ),
    "params.yaml": (
        lambda it: replace(it, params=it.params.replace("seed: 1", "seed: 2")),
        "params.yaml: seed: must be 1 as in dvc.lock (got 2)",
    ),
    "intent": (lambda it: tagged(it, "intent", "ablation"), "run: tag intent: must be baseline"),
    "learner": (lambda it: tagged(it, "model", "network"), "run: tag model: must be trees"),
    "dirt": (lambda it: tagged(it, "git_dirty", "no"), "run: tag git_dirty: must be true or false"),
    "dirt of the version": (
        lambda it: version_tagged(it, "git_dirty", "true"),
        "version: tag git_dirty: must be false as of its run (got true)",
    ),
    "a machine forgotten": (
        lambda it: replace(it, tags={n: v for n, v in it.tags.items() if n != "environment.cpu"}),
        "run: tag environment.cpu: must be",
    ),
    "a parameter made up": (
        lambda it: replace(it, values={**it.values, "magic": "9"}),
        "run: parameter magic: must be absent as in dvc.lock (got 9)",
    ),
    "a metric made up": (
        lambda it: replace(it, scores={**it.scores, "test/lift": 9.0}),
        "run: metric test/lift: must be absent as in evaluate/metrics.json (got 9.0)",
    ),
    "no YAML": (lambda it: replace(it, params="a: ["), "params.yaml: must be YAML"),
    "another model": (
        lambda it: replace(it, version=replace(it.version, source="models:/m-0")),
        "version: model: must be models:/m-",
    ),
}


def test_what_was_recorded_agrees(claim: Claim):
    assert faults.of(claim) == []


@pytest.mark.parametrize("name", CHANGES)
def test_each_change_is_named(claim: Claim, name: str):
    change, said = CHANGES[name]
    assert said in "\n".join(faults.of(change(claim)))


def test_an_artifact_that_nobody_can_read_is_told(here: Path):
    run_id = claims.of_version(MODEL, 1).run_id
    (lock,) = (here / store.ARTIFACTS).rglob("dvc.lock")
    lock.write_text("stages: [")
    with pytest.raises(UnreadableError, match=f"run {run_id}: what it keeps must be readable"):
        claims.of_version(MODEL, 1)
