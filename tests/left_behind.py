"""Hand-made outputs of every stage before `register`, in a folder that looks like a checkout.

`recorded` and `here` are fixtures of all tests that need a store with something in it.
"""

import hashlib
import json
import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from dataclasses import asdict
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import yaml

from tasks import command, files, store
from tasks.checkpoints import NOWHERE
from tasks.encoder import Encoder
from tasks.examples import Columns
from tasks.models.trees import Trees

ROOT = Path(__file__).parent.parent
FOLDERS = ("ingest", "validate", "featurize", "train", "evaluate", "register")
COLUMNS = Columns(
    keys=("customer_id",),
    numeric=("visits", "days", "share"),
    categorical=("country",),
    target="churned",
    slice="country",
)
TREES = {
    "learning_rate": 0.3,
    "max_depth": 2,
    "min_child_weight": 1,
    "subsample": 1,
    "colsample_bynode": 1,
    "reg_lambda": 1,
    "device": "cpu",
    "max_rounds": 5,
    "early_stopping_rounds": 5,
}
REGISTER = {
    "experiment": "churn-prediction",
    "model_name": "churn-predictor",
    "stage": "staging",
    "intent": "baseline",
    "batch_rows": 20,
    "latency_calls": 3,
}
ASKED = {
    "experiment": REGISTER["experiment"],
    "model_name": REGISTER["model_name"],
    "alias": REGISTER["stage"],
}
MLFLOW_WARNS = [
    # MLflow 3.17 uses a loading strategy that SQLAlchemy is about to drop; it still works.
    pytest.mark.filterwarnings("ignore:The ``noload`` loader:DeprecationWarning"),
    # MLflow's own classes do not meet its own demand for type hints.
    pytest.mark.filterwarnings("ignore:.*Any type hint is inferred as AnyType:UserWarning"),
    # MLflow compares an index of names with a range, as pandas 3 still allows.
    pytest.mark.filterwarnings("ignore:Operation with range is deprecated:DeprecationWarning"),
]
CHECK = {"name": "min_auc", "bound": 0.8, "observed": 0.75, "why": "ROC AUC 0.7500 is below 0.8"}


def examples(rows: int, seed: int) -> pl.DataFrame:
    """Integers with and without nulls, a float with nulls, names with nulls."""
    draw = np.random.default_rng(seed)
    visits = draw.integers(1, 9, rows)
    return pl.DataFrame(
        {
            "customer_id": np.arange(rows),
            "visits": visits,
            "days": [None if day > 300 else day for day in draw.integers(0, 365, rows).tolist()],
            "share": [None if part > 0.9 else part for part in draw.random(rows).tolist()],
            "country": draw.choice(["de", "fr", None], rows).tolist(),
            "churned": pl.Series((visits + draw.integers(0, 4, rows) > 6).astype(np.int8)),
        },
        schema_overrides={"days": pl.Int64, "country": pl.String},
    )


def leave(folder: Path, *, passed: bool = True) -> Path:
    """Write what `register` reads below `folder`, and give it back."""
    data = folder / "data"
    parts = {"train": examples(200, 1), "val": examples(60, 2), "test": examples(50, 3)}
    parts["between"] = parts["val"].clear()
    encoder = Encoder.fit(parts["train"], COLUMNS)
    counts = {
        part: {"rows": len(frame), "positives": int(frame["churned"].sum())}
        for part, frame in parts.items()
    }
    for part, frame in parts.items():
        files.write_parquet(data / "featurize" / f"{part}.parquet", frame)
    (data / "featurize" / "encoder.json").write_text(encoder.to_json())
    rule = {"recipe": "table", "split": "random"}
    record = {"columns": asdict(COLUMNS), "rule": rule, "parts": counts}
    files.write_json(data / "featurize" / "examples.json", record)

    history: list[dict[str, float]] = []
    learner = Trees(**TREES)
    fitted = learner.fit(
        learner.prepare(encoder.encode(parts["train"]), encoder.encode(parts["val"])),
        seed=1,
        report=lambda step, scores: history.append({"step": step, **scores}),
        checkpoints=NOWHERE,
    )
    fitted.save(data / "train")
    files.write_json(data / "train" / "history.json", history)

    scores = fitted.predict(encoder.encode(parts["test"]))
    predictions = parts["test"].select("customer_id", "churned").with_columns(score=scores)
    files.write_parquet(data / "evaluate" / "predictions.parquet", predictions)
    measured = {"roc_auc": 0.75, "log_loss": 0.4, "f1": None}
    interval = {"test_interval": {"roc_auc": {"low": 0.7, "high": 0.8}}}
    metrics = dict.fromkeys(("train", "val", "test"), measured) | interval
    files.write_json(data / "evaluate" / "metrics.json", metrics)
    baselines = {"base_rate": {"model": "the base rate", "test": {"roc_auc": 0.5}}}
    files.write_json(data / "evaluate" / "baselines.json", baselines)
    gate = {"passed": passed, "checks": [{**CHECK, "passed": passed}]}
    files.write_json(data / "evaluate" / "gate.json", gate)

    snapshot = parts["train"].with_columns(day=pl.date(1998, 1, 1))
    files.write_parquet(data / "ingest" / "snapshot.parquet", snapshot)
    manifest = {"source": "data/lake", "dataset_version": "1998-07-01", "rows": len(snapshot)}
    files.write_json(data / "ingest" / "manifest.json", manifest)
    files.write_json(data / "validate" / "report.json", {"passed": True})
    settle(folder)
    return folder


def settle(folder: Path, seed: int = 1) -> None:
    """Write the settings; another seed is another result, with another lineage key."""
    params = {"seed": seed, "model": "trees", "models": {"trees": TREES}, "register": REGISTER}
    (folder / "params.yaml").write_text(yaml.safe_dump(params))
    shutil.copy(ROOT / "requirements.lock", folder)
    weights = (folder / "data" / "train" / "model.ubj").read_bytes()
    stage = {
        "cmd": "python -m tasks.train data/featurize data/train",
        "deps": [{"path": "requirements.lock", "hash": "md5", "md5": "0" * 32}],
        "params": {"params.yaml": {"seed": seed, "model": "trees", "models.trees": TREES}},
        "outs": [{"path": "data/train", "md5": hashlib.md5(weights).hexdigest()}],  # noqa: S324
    }
    (folder / "dvc.yaml").write_text(yaml.safe_dump({"stages": {"train": {"cmd": stage["cmd"]}}}))
    (folder / "dvc.lock").write_text(yaml.safe_dump({"schema": "2.0", "stages": {"train": stage}}))
    costs = folder / ".verbatim" / "costs"
    costs.mkdir(parents=True, exist_ok=True)
    for name in ("train", "evaluate", "register"):
        outputs = command.digest(folder / "data" / name)
        measured = {"wall_seconds": 1.5, "peak_memory_mib": 90.0, "outputs": outputs}
        (costs / f"{name}.json").write_text(json.dumps(measured))


def tell_place(database: Path, old: Path, new: Path) -> None:
    """Have every path in an MLflow database lie below another folder."""
    with closing(sqlite3.connect(database)) as opened, opened:
        for table, column in store._PATHS.items():
            opened.execute(
                f"UPDATE {table} SET {column} = replace({column}, ?, ?)",  # noqa: S608
                (f"{old}/", f"{new}/"),
            )


def start(folder: Path, **environment: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tasks.register", *(f"data/{name}" for name in FOLDERS)]
    inherited = {name: os.environ[name] for name in os.environ if not name.startswith("MLFLOW")}
    return subprocess.Popen(
        command,
        cwd=folder,
        env=inherited | {"PYTHONPATH": str(ROOT)} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture(scope="session")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout whose result was recorded, by a process as DVC would start it."""
    folder = leave(tmp_path_factory.mktemp("recorded"))
    process = start(folder)
    output, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    assert errors == ""
    assert "churn-predictor version 1 (staging)" in output
    return folder


@pytest.fixture
def here(recorded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """It again, as if it had been moved here from a folder that is gone; its store is its own."""
    folder = tmp_path / "moved"
    shutil.copytree(recorded, folder)
    tell_place(folder / "mlflow.db", recorded, tmp_path / "gone")
    monkeypatch.chdir(folder)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store.DEFAULT)
    return folder
