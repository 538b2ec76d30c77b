"""A run that judges, on the real data: the champion's place, the ledger, and why."""

import json
import shutil
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

import polars as pl
import pytest
from conftest import train
from test_training import flow_runs, happened

from tasks import ledger

pytestmark = pytest.mark.xdist_group("trained")  # one worker trains, once

LENIENT = ("--set", "evaluate.min_auc=0.5", "--set", "evaluate.min_accuracy=0.5",
           "--set", "evaluate.min_gain=-1")  # fmt: skip


def decisions(checkout: Path) -> list[ledger.Decision]:
    with closing(sqlite3.connect(checkout / "mlflow.db")) as store:
        return ledger.read(dict(store.execute("SELECT key, value FROM registered_model_tags")))


def aliases(checkout: Path) -> dict[str, int]:
    with closing(sqlite3.connect(checkout / "mlflow.db")) as store:
        return dict(store.execute("SELECT alias, version FROM registered_model_aliases"))


def flows(checkout: Path, environment, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["python", "-m", "flows", *words],
        cwd=checkout,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def state(done, environment) -> tuple[str, str]:
    """Give the name and message of the state that the newest run of this name ended in."""
    title = next(line for line in done.stdout.splitlines() if "baseline-" in line).strip()
    found = flow_runs(environment, title)[0]["state"]
    return found["name"], found["message"]


def test_the_night_promotes_the_first_keeps_out_the_worse_and_says_why(trained: Path, prefect):
    done = train(trained, prefect, "--judge")
    assert done.returncode == 0, done.stderr
    assert set(happened(done).values()) == {"cached"}
    assert state(done, prefect) == ("Promoted", "the first version that has passed the gate")
    assert aliases(trained) == {"staging": 1, "champion": 1}

    again = train(trained, prefect, "--judge")
    assert state(again, prefect) == (
        "Unchanged", "nothing has changed: churn-predictor version 1 is the champion",
    )  # fmt: skip
    assert len(decisions(trained)) == 1

    worse = train(trained, prefect, "--judge", *LENIENT, "--set", "models.trees.max_rounds=2")
    name, why = state(worse, prefect)
    assert name == "Kept"
    assert why.startswith("version 2 has roc_auc 0.8")
    assert "it is worse" in why
    assert "knows nothing newer" in why
    assert why in worse.stdout
    assert aliases(trained) == {"staging": 2, "champion": 1}
    kept = decisions(trained)[-1]
    assert (kept.kind, kept.champion, kept.subject, kept.to) == ("kept", 1, 2, 1)
    evaluated = json.loads((trained / "data/evaluate/metrics.json").read_text())["test"]
    assert kept.evidence["challenger"]["roc_auc"] == evaluated["roc_auc"]
    assert kept.evidence["champion"]["roc_auc"] > evaluated["roc_auc"]

    again = train(trained, prefect, "--judge")
    assert state(again, prefect)[0] == "Unchanged"
    assert "nothing has changed since decision 2" in state(again, prefect)[1]
    assert len(decisions(trained)) == 2

    for words in (("promote", "2"), ("rollback",)):
        assert flows(trained, prefect, *words, "--reason", "to see").returncode == 0
    again = train(trained, prefect, "--judge", "--set", "promote.margin=0.9")
    assert state(again, prefect)[0] == "Kept"  # by another rule they are judged anew
    assert "version 2 was rolled back" in decisions(trained)[-1].reason
    assert aliases(trained)["champion"] == 1


def test_a_champion_that_cannot_score_now_is_no_verdict(trained: Path, prefect):
    assert train(trained, prefect, "--judge").returncode == 0
    shutil.move(trained / "mlartifacts", trained.parent / "away")
    done = train(trained, prefect, "--judge", *LENIENT, "--set", "models.trees.max_rounds=2")
    assert done.returncode == 1
    assert state(done, prefect)[0] == "Failed"
    assert "version 1, the champion, must score the new test rows" in done.stdout
    assert "python -m flows promote 2 --reason WHY" in done.stdout
    assert len(decisions(trained)) == 1


def test_what_fails_the_gate_is_in_the_ledger_and_the_champion_stays(trained: Path, prefect):
    assert train(trained, prefect, "--judge").returncode == 0
    done = train(trained, prefect, "--judge", "--set", "evaluate.min_auc=0.99")
    assert done.returncode == 1
    name, _ = state(done, prefect)
    assert name == "GateFailed"
    kept = decisions(trained)[-1]
    assert (kept.kind, kept.subject, kept.to) == ("kept", None, 1)
    assert "the model did not pass the gate: ROC AUC on test 0.84" in kept.reason
    assert kept.reason.endswith("is below 0.99")
    assert aliases(trained)["champion"] == 1


def test_bad_data_stops_the_night_and_the_champion_stays(trained: Path, prefect):
    assert train(trained, prefect, "--judge").returncode == 0
    lake = trained / "data/mine"
    shutil.copytree(trained / "data/lake", lake)
    bad = lake / "month=1998-06/purchases.parquet"
    pl.read_parquet(bad, hive_partitioning=False).with_columns(
        amount_cents=-pl.col("amount_cents")
    ).write_parquet(bad)
    done = train(trained, prefect, "--judge", "--set", "ingest.source=data/mine")
    assert done.returncode == 1
    assert happened(done)["validate"] == "failed"
    assert state(done, prefect)[0] == "DataRefused"
    kept = decisions(trained)[-1]
    assert "the data was refused: validate: DataValidationError:" in kept.reason
    assert "amount_cents" in kept.reason
    assert aliases(trained)["champion"] == 1
    assert train(trained, prefect, "--judge", "--set", "ingest.source=data/mine").returncode == 1
    assert len(decisions(trained)) == 2  # the same run, begun again, is no other decision


def test_a_night_promotes_nothing_that_is_not_what_it_claims_to_be(trained: Path, prefect):
    """Where a proof is required, it proves the challenger itself: here, a model was changed."""
    (weights,) = trained.glob("mlartifacts/models/*/artifacts/artifacts/train/model.ubj")
    weights.write_bytes(weights.read_bytes() + b"more")
    done = train(trained, prefect, "--judge", "--set", "register.require_proof=true")
    assert done.returncode == 0, done.stderr
    name, why = state(done, prefect)
    assert name == "Differs"  # and so people are told
    assert why.startswith("it would be promoted (the first version that has passed the gate), but")
    assert "stored model: artifacts/train/model.ubj: must have the MD5" in why
    assert aliases(trained) == {"staging": 1}
    assert decisions(trained)[-1].to is None
