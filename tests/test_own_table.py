"""The way of docs/own-table.md from a table nobody has seen to a registered model, as written."""

import json
import subprocess
from pathlib import Path

import polars as pl
import pytest
from own_table import CHANGED, COMMANDS, REPLACED, own_table, patients

SCORE = """
import json, sys
import mlflow, pandas
mlflow.set_tracking_uri("sqlite:///mlflow.db")
model = mlflow.pyfunc.load_model(f"models:/{sys.argv[1]}@staging")
rows = pandas.DataFrame(json.load(sys.stdin))
print(json.dumps(model.predict(rows).tolist()))
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    return own_table(tmp_path / "checkout")


def test_from_an_unseen_table_to_a_registered_model(checkout: Path, environment: dict[str, str]):
    def typed(*command: str, given: str = "") -> str:
        done = subprocess.run(
            command,
            cwd=checkout,
            env=environment,
            input=given,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    # without Prefect, which the other tests of the flow have
    typed("bash", "-euc", COMMANDS.replace("python -m flows train", "dvc repro"))
    auc = json.loads((checkout / "data/evaluate/metrics.json").read_text())["test"]["roc_auc"]
    assert auc > 0.95

    rows = patients().head(40)
    raw = rows.drop("patient_id", "name", "diagnosis").with_columns(
        smokes=pl.col("cigarettes") > 0,
        clinic=pl.Series([None, "nowhere", *rows["clinic"][2:]]),
    )
    scores = json.loads(
        typed("python", "-c", SCORE, CHANGED["register"]["model_name"], given=raw.write_json())
    )
    ill = rows["diagnosis"] == REPLACED["featurize"]["columns"]["positive"]
    assert len(scores) == len(rows)
    assert all(0 < score < 1 for score in scores)
    assert pl.Series(scores).filter(ill).mean() > 0.8
    assert pl.Series(scores).filter(~ill).mean() < 0.2
