import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import polars as pl
import pytest
from conftest import free_ports, wait_for
from left_behind import ASKED, COLUMNS, MLFLOW_WARNS, ROOT

from tasks import files, lineage, packing, store, tracking
from tasks.models import Models

pytestmark = MLFLOW_WARNS

SCORE = """
import json, sys
import mlflow, pandas
model = mlflow.pyfunc.load_model("models:/churn-predictor@staging")
frame = pandas.DataFrame(json.loads(sys.argv[1]))
import tasks
print(json.dumps([model.predict(frame).tolist(), tasks.__file__]))
"""


@pytest.fixture
def test_part(recorded: Path) -> pl.DataFrame:
    return files.read_parquet(recorded / "data" / "featurize" / "test.parquet")


@pytest.fixture
def evaluated(recorded: Path) -> list[float]:
    path = recorded / "data" / "evaluate" / "predictions.parquet"
    return files.read_parquet(path)["score"].to_list()


def elsewhere(
    folder: Path, recorded: Path, records: list[dict[str, Any]]
) -> tuple[list[float], str]:
    """Score in a folder and process that know nothing of this repository."""
    answer = subprocess.run(
        [sys.executable, "-I", "-c", SCORE, json.dumps(records)],
        cwd=folder,
        env={**os.environ, "MLFLOW_TRACKING_URI": f"sqlite:///{recorded}/mlflow.db"},
        capture_output=True,
        text=True,
        check=True,
    )
    scores, package = json.loads(answer.stdout)
    return scores, package


def test_loads_without_the_repository(
    recorded: Path, tmp_path: Path, test_part: pl.DataFrame, evaluated: list[float]
) -> None:
    scores, package = elsewhere(tmp_path, recorded, test_part.to_dicts())
    assert scores == evaluated
    assert Path(package).is_relative_to(recorded / "mlartifacts")


@pytest.fixture
def model(here: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    record = tracking.find(lineage.read().key, **ASKED)
    assert record is not None
    tracking.connect_to_write()
    monkeypatch.setattr(sys, "path", sys.path)  # MLflow puts the model's code first
    return mlflow.pyfunc.load_model(f"runs:/{record.run_id}/model")


def test_takes_raw_columns_as_pandas(
    model: Any, test_part: pl.DataFrame, evaluated: list[float]
) -> None:
    features = test_part.select(COLUMNS.features).to_pandas()
    assert model.predict(features).tolist() == evaluated
    assert model.predict(features.iloc[::-1]).tolist() == evaluated[::-1]
    assert model.predict(features.astype({"visits": "float64"})).tolist() == evaluated
    assert model.predict(features.astype({"days": "Int64"})).tolist() == evaluated


def test_takes_unknown_categories_and_nulls(model: Any) -> None:
    known = pd.DataFrame({"visits": [3], "days": [10], "share": [0.5], "country": ["de"]})
    unknown = known.assign(country="atlantis")
    empty = known.assign(visits=None, days=None, share=float("nan"), country=None)
    for frame in (known, unknown, empty):
        (score,) = model.predict(frame)
        assert 0 < score < 1
    assert len(model.predict(pd.concat([empty] * 3))) == 3


def test_refuses_rows_without_a_column(model: Any) -> None:
    """A mistyped name must not score as if the value were unknown."""
    known = pd.DataFrame({"visits": [3], "days": [10], "share": [0.5], "country": ["de"]})
    with pytest.raises(mlflow.MlflowException, match=r"missing: days, country"):
        model.predict(known.rename(columns={"days": "day", "country": "land"}))


def test_states_its_columns(model: Any) -> None:
    assert model.metadata.get_input_schema().input_names() == list(COLUMNS.features)
    assert not model.metadata.get_input_schema().required_input_names()
    assert model.metadata.metadata["columns"] == {
        "visits": "Int64",
        "days": "Int64",
        "share": "Float64",
        "country": "String",
    }


@pytest.fixture
def address(recorded: Path, tmp_path: Path) -> Iterator[str]:
    (port,) = free_ports(1)
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "mlflow", "models", "serve", "--env-manager", "local"),
            *("--model-uri", "models:/churn-predictor@staging"),
            *("--host", "127.0.0.1", "--port", str(port), "--workers", "1"),
        ],
        cwd=tmp_path,
        env={
            **os.environ,
            **store.QUIET,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "MLFLOW_TRACKING_URI": f"sqlite:///{recorded}/mlflow.db",
        },
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        wait_for(f"http://127.0.0.1:{port}/ping", process)
        yield f"http://127.0.0.1:{port}/invocations"
    finally:
        os.killpg(process.pid, 15)
        process.wait()


def test_answers_over_http(address: str, test_part: pl.DataFrame, evaluated: list[float]) -> None:
    features = test_part.select(COLUMNS.features)
    table = {"columns": features.columns, "data": [list(row) for row in features.rows()]}
    request = urllib.request.Request(
        address,
        json.dumps({"dataframe_split": table}).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        assert json.load(answer)["predictions"] == evaluated


def test_carries_what_it_needs_and_no_more(tmp_path: Path) -> None:
    code = packing.copy_code(tmp_path)
    carried = {str(path.relative_to(code)) for path in code.rglob("*.py")}
    assert {"__init__.py", "encoder.py", "models/__init__.py"} < carried
    assert {f"models/{model}.py" for model in Models.model_fields} < carried
    assert not carried & {"register.py", "tracking.py", "serving.py", "featurize.py"}


@pytest.mark.parametrize("model", Models.model_fields)
def test_requirements_are_those_of_the_lock_and_of_one_learner(model: str) -> None:
    requirements = packing.requirements(model, ROOT / "requirements.lock")
    names = {requirement.split("==")[0] for requirement in requirements}
    assert {"mlflow", "numpy", "pandas", "polars", "pyarrow"} <= names
    assert not names & {"dvc", "prefect", "great-expectations", "matplotlib", "verbatim"}
    frameworks = {"trees": "xgboost", "network": "torch"}
    assert names & set(frameworks.values()) == {frameworks[model]}
    lock = (ROOT / "requirements.lock").read_text()
    assert all(f"\n{requirement}" in f"\n{lock}" for requirement in requirements)


def test_scores_are_float64(model: Any, test_part: pl.DataFrame) -> None:
    assert model.predict(test_part.select(COLUMNS.features).to_pandas()).dtype == np.float64
