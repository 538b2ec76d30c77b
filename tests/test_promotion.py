"""`promote`, `rollback` and `ledger` as a person types them, against a real store and server."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from left_behind import ASKED, MLFLOW_WARNS, ROOT

from tasks import proof, registry, tracking
from tasks.proof import Proof
from tasks.store import GATE

pytestmark = MLFLOW_WARNS
MODEL = ASKED["model_name"]

Type = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def flows(here: Path, prefect: dict[str, str]) -> Type:
    """Type a verb in a checkout whose model has three versions of one run."""
    client = tracking.connect_to_write().MlflowClient()
    (first,) = client.search_model_versions(f"name = '{MODEL}'")
    for _ in range(2):
        client.create_model_version(MODEL, first.source, first.run_id, tags=first.tags)

    def type_verb(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "flows", *words],
            cwd=here,
            env={**prefect, "PYTHONPATH": str(ROOT), "COLUMNS": "200", "GIT_AUTHOR_NAME": "Ann",
                 "GIT_AUTHOR_EMAIL": "ann@shop.example"},
            capture_output=True,
            text=True,
            check=False,
        )  # fmt: skip

    return type_verb


def champion() -> int | None:
    with registry.looked_at(MODEL) as models:
        return models.alias(registry.CHAMPION)


def runs_of(name: str, environment: dict[str, str]) -> list[Any]:
    from test_training import flow_runs

    return flow_runs(environment, name)


def test_a_person_promotes_and_takes_it_back_and_the_ledger_tells_both(flows: Type, prefect):
    assert flows("promote", "1", "--reason", "the first").returncode == 0
    done = flows("promote", "3", "--reason", "serves the new cohort")
    assert done.returncode == 0, done.stderr
    assert "version 3 is the champion, before: version 1: serves the new cohort" in done.stdout
    assert champion() == 3
    done = flows("rollback", "--reason", "complaints")
    assert done.returncode == 0, done.stderr
    assert champion() == 1
    states = {run["state_name"] for run in runs_of("promote version 3", prefect)}
    assert states == {"Promoted"}
    assert runs_of("rollback", prefect)[0]["state_name"] == "RolledBack"

    told = flows("ledger").stdout
    for words in ("promoted: version 1 → version 3", "rolled back: version 3 → version 1",
                  "by Ann <ann@shop.example>", "serves the new cohort", "complaints",
                  "version 1 is the champion"):  # fmt: skip
        assert words in told
    kept = json.loads(flows("ledger", MODEL, "--json").stdout)
    assert [each["to"] for each in kept] == [1, 3, 1]

    done = flows("rollback", "--reason", "once more")
    assert done.returncode == 1
    assert "there must be a champion before the one of now (got none)" in done.stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["promote", "9", "--reason", "x"], "must be one of those registered: 1, 2, 3 (got 9)"),
        (["promote", "1", "--reason", "x"], "another version than the champion (got 1)"),
        (["promote", "2", "--reason", " "], "--reason must say why"),
        (["rollback", "--reason", ""], "--reason must say why"),
    ],
)
def test_nonsense_is_refused_and_nothing_moves(flows: Type, words: list[str], said: str):
    with registry.opened(MODEL) as models:
        models.decide("promoted", by="tests", seen=None, subject=1, to=1, reason="the first")
    done = flows(*words)
    assert done.returncode == 1
    assert said in done.stdout
    with registry.looked_at(MODEL) as models:
        assert len(models.decisions()) == 1
    assert champion() == 1


@pytest.mark.parametrize("passed", ["failed", None])
def test_without_a_passed_gate_it_takes_force(flows: Type, passed: str | None):
    client = tracking.connect_to_write().MlflowClient()
    run_id = client.get_model_version(MODEL, "2").run_id
    if passed is None:
        client.delete_tag(run_id, GATE)
    else:
        client.set_tag(run_id, GATE, passed)
    done = flows("promote", "2", "--reason", "x")
    assert done.returncode == 1
    assert "must have passed the gate" in done.stdout
    assert champion() is None
    assert flows("promote", "2", "--reason", "x", "--force").returncode == 0
    with registry.looked_at(MODEL) as models:
        assert models.decisions()[-1].evidence["forced"] is True
    assert champion() == 2


def test_a_ledger_that_was_tampered_with_is_told(flows: Type):
    client = tracking.connect_to_write().MlflowClient()
    with registry.opened(MODEL) as models:
        first = models.decide(
            "promoted", by="tests", seen=None, subject=1, to=1, reason="the first"
        )
        models.decide("promoted", by="tests", seen=1, subject=2, to=2, reason="the second")
    client.delete_registered_model_tag(MODEL, first.tag)
    done = flows("ledger")
    assert done.returncode == 1
    assert "the ledger is not whole: the decision before number 2 is missing" in done.stdout


def test_a_model_without_decisions_says_so(flows: Type):
    done = flows("ledger", "nobody")
    assert done.returncode == 0
    assert "nobody: no decision was ever taken" in done.stdout


def test_where_a_proof_is_required_nothing_makes_up_for_it(here: Path, flows: Type):
    settings = yaml.safe_load((here / "params.yaml").read_text())
    settings["register"]["require_proof"] = True
    (here / "params.yaml").write_text(yaml.safe_dump(settings))
    done = flows("promote", "1", "--reason", "x", "--force")
    assert done.returncode == 1
    assert f"{MODEL} version 1: must be proven" in done.stdout
    assert "(got: nobody has proven it)" in done.stdout
    assert f"next: python -m flows prove {MODEL}/1" in done.stdout
    assert champion() is None

    with registry.opened(MODEL) as models:
        commit = models.version(1).tags["git_commit"]
        with proof.stored(MODEL, 1) as folder:
            made = Proof(proof.digest(folder), models.version(1).lineage_key, commit)
        models.tag(1, proof.REPRODUCED, proof.YES)
        models.tag(1, proof.PROOF, made.to_json())
    assert flows("promote", "1", "--reason", "x").returncode == 0
    assert champion() == 1
    with registry.looked_at(MODEL) as models:
        assert models.decisions()[-1].evidence["proof"]["model"] == made.model
