"""The README's way from a table nobody has seen to a registered model, typed as it stands there."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml
from conftest import ROOT, copy_checkout
from sklearn.datasets import load_breast_cancer

SECTION = (ROOT / "README.md").read_text().split("## Your own table\n")[1].split("\n## ")[0]
REPLACED, CHANGED = map(yaml.safe_load, re.findall(r"```yaml\n(.*?)```", SECTION, re.DOTALL))
(COMMANDS,) = re.findall(r"```\n(dvc repro ingest\n.*?)```", SECTION, re.DOTALL)

SCORE = """
import json, sys
import mlflow, pandas
mlflow.set_tracking_uri("sqlite:///mlflow.db")
model = mlflow.pyfunc.load_model(f"models:/{sys.argv[1]}@staging")
rows = pandas.DataFrame(json.load(sys.stdin))
print(json.dumps(model.predict(rows).tolist()))
"""


def patients() -> pl.DataFrame:
    """The breast cancer table of scikit-learn, with columns made up around it."""
    known = load_breast_cancer(as_frame=True).frame
    rows = range(len(known))
    return pl.from_pandas(known.drop(columns="target")).with_columns(
        pl.Series("patient_id", [f"p{row:03d}" for row in rows]),
        pl.Series("name", [f"Patient {row}" for row in rows]),
        pl.Series("clinic", [("north", "south", None, "west")[row % 4] for row in rows]),
        pl.Series("cigarettes", [(0, None, 10, 20.5)[row % 7 % 4] for row in rows], strict=False),
        pl.Series("diagnosis", [("malignant", "benign")[value] for value in known["target"]]),
    )


def write(table: pl.DataFrame, folder: Path) -> None:
    """Two CSV files: the first has whole cigarettes only, and no clinic."""
    folder.mkdir()
    first = table.head(100).with_columns(
        pl.lit(None).alias("clinic"), pl.col("cigarettes").cast(pl.Int64)
    )
    first.write_csv(folder / "1.csv")
    table.tail(-100).write_csv(folder / "2.csv")


def changed(values: dict[str, Any], by: dict[str, Any]) -> dict[str, Any]:
    """Copy a mapping with some of its leaves changed, all of which it must have."""
    assert by.keys() <= values.keys()
    both = {
        key: changed(values[key], value) if isinstance(value, dict) else value
        for key, value in by.items()
    }
    return {**values, **both}


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    checkout = copy_checkout(tmp_path / "checkout")
    file = checkout / "params.yaml"
    values = {**yaml.safe_load(file.read_text()), **REPLACED}
    file.write_text(yaml.safe_dump(changed(values, CHANGED)))
    write(patients(), checkout / REPLACED["ingest"]["source"])
    return checkout


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
