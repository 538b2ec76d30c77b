"""Hand-made outputs of every stage before `register`, in a folder that looks like a checkout."""

import hashlib
import json
import shutil
from dataclasses import asdict
from pathlib import Path

import numpy as np
import polars as pl
import yaml

from tasks import files
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
    fitted = Trees(**TREES).fit(
        encoder.encode(parts["train"]),
        encoder.encode(parts["val"]),
        seed=1,
        report=lambda step, scores: history.append({"step": step, **scores}),
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
    (folder / "dvc.yaml").write_text("stages: {}\n")
    shutil.copy(ROOT / "requirements.lock", folder)
    weights = (folder / "data" / "train" / "model.ubj").read_bytes()
    stage = {
        "cmd": "python -m tasks.train data/featurize data/train",
        "deps": [{"path": "requirements.lock", "hash": "md5", "md5": "0" * 32}],
        "params": {"params.yaml": {"seed": seed, "model": "trees", "models.trees": TREES}},
        "outs": [{"path": "data/train", "md5": hashlib.md5(weights).hexdigest()}],  # noqa: S324
    }
    (folder / "dvc.lock").write_text(yaml.safe_dump({"schema": "2.0", "stages": {"train": stage}}))
    costs = folder / ".verbatim" / "costs"
    costs.mkdir(parents=True, exist_ok=True)
    (costs / "train.json").write_text(json.dumps({"wall_seconds": 1.5, "peak_memory_mib": 90.0}))
