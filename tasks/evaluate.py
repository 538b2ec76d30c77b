"""Score the model on every part, compare it with baselines, draw the curves, decide the gate.

Whether the gate passes is only written down here: `register` refuses a model that did not pass.
Float sums are numpy's, over rows in a fixed order, so the number of threads changes nothing.

    python -m tasks.evaluate data/featurize data/train data/evaluate
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from pydantic import Field

from tasks import (
    baselines,
    command,
    curves,
    drift,
    explain,
    figures,
    files,
    gate,
    metrics,
    scored,
    seeds,
)
from tasks.encoder import Dataset, Encoder
from tasks.metrics import Floats, Tally
from tasks.models import Fitted
from tasks.past_model import PastModel
from tasks.scored import Scored


class Evaluate(gate.Bounds):
    """How the model is measured, and what it must reach."""

    threshold: float = Field(
        gt=0, lt=1, description="score from which on a row counts as predicted positive"
    )
    calibration_bins: int = Field(
        ge=2, le=100, description="equal parts of 0..1 in which scores meet observed rates"
    )
    resamples: int = Field(ge=100, le=100_000, description="bootstrap resamples of the test rows")
    explained_rows: int = Field(
        ge=1, description="test rows over which |contribution| is averaged, at most, evenly spaced"
    )
    samples: int = Field(ge=1, description="test rows shown with their strongest reasons")
    baseline_run_id: str | None = Field(
        pattern="^[0-9a-f]{32}$",
        description="MLflow run whose model is the baseline; null: the one-feature model",
    )

    def measures(self, tally: Tally) -> dict[str, float]:
        """Compute all metrics by name."""
        return metrics.measures(tally, threshold=self.threshold, bins=self.calibration_bins)


@dataclass(frozen=True)
class Rival:
    """A baseline: what it is in words, and its scores of the test rows."""

    words: str
    score: Floats


def rivals(train: Dataset, test: Scored, baseline_run_id: str | None) -> dict[str, Rival]:
    """Score the test rows by each baseline, by name; the last one is the gate's."""
    rate = baselines.base_rate(train)
    found = {"base_rate": Rival(f"the base rate {rate:.4f}", np.full(len(test.data), rate))}
    one = baselines.fit_one_feature(train)
    if one is not None:
        found["one_feature"] = Rival(f"{one.name} alone", one.predict(test.data))
    if baseline_run_id is not None:
        score = PastModel(baseline_run_id).predict(test.frame.select(test.columns.features))
        source = f"evaluate.baseline_run_id {baseline_run_id}: scores"
        found["baseline_run"] = Rival(
            f"run {baseline_run_id[:8]}", scored.probabilities(score, source)
        )
    return found


def report(parts: Mapping[str, Scored], evaluate: Evaluate, *, seed: int) -> dict[str, Any]:
    """Give every metric on every part, and its 95 % interval on test."""
    test = parts["test"]
    bounds = metrics.intervals(
        test.target, test.score, evaluate.measures, resamples=evaluate.resamples, seed=seed
    )
    measured: dict[str, Any] = {name: evaluate.measures(part.tally) for name, part in parts.items()}
    interval = {name: {"low": low, "high": high} for name, (low, high) in bounds.items()}
    return {**measured, "test_interval": interval}


def compare(
    test: Scored, others: Mapping[str, Rival], evaluate: Evaluate, *, seed: int
) -> dict[str, Any]:
    """Give each baseline's metrics on test, and what the model's ROC AUC gains over it."""
    return {
        name: {
            "model": other.words,
            "test": evaluate.measures(metrics.tally(test.target, other.score)),
            "gain": metrics.paired_gain(
                test.target, test.score, other.score, resamples=evaluate.resamples, seed=seed
            ),
        }
        for name, other in others.items()
    }


def judge(
    parts: Mapping[str, Scored], others: Mapping[str, Rival], evaluate: Evaluate, *, seed: int
) -> dict[str, Any]:
    """Give the content of `metrics.json`, `baselines.json`, `drift.json` and `gate.json`.

    Besides, `metrics/<row>.json` is one row each of the table that `dvc metrics show` prints.
    """
    test = parts["test"]
    measured = report(parts, evaluate, seed=seed)
    compared = compare(test, others, evaluate, seed=seed)
    drifted = drift.of_features(parts["train"].data, test.data)
    name, past = list(others)[-1], others.get("baseline_run")
    evidence = gate.Evidence(
        accuracy=measured["test"]["accuracy"],
        roc_auc=measured["test"]["roc_auc"],
        baseline=others[name].words,
        gain=compared[name]["gain"],
        score_drift=None if past is None else drift.psi_of_numbers(past.score, test.score),
        feature_drift=drifted,
    )
    rows = {name: measured[name] for name in parts}
    rows |= {f"test_{name}": baseline["test"] for name, baseline in compared.items()}
    return {
        "metrics": measured,
        **{f"metrics/{name}": row for name, row in rows.items()},
        "baselines": compared,
        "drift": drifted,
        "gate": gate.judge(evaluate, evidence),
    }


def slices(test: Scored, evaluate: Evaluate) -> list[dict[str, Any]]:
    """Give the metrics for each value of the slice column; nothing without such a column."""
    name = test.columns.slice
    if name is None:
        return []
    values = test.frame[name].cast(pl.String)
    found = []
    for value in values.unique().sort():
        inside = values.eq_missing(pl.Series([value], dtype=pl.String)).to_numpy()
        tally = metrics.tally(test.target[inside], test.score[inside])
        counts = {"rows": int(tally.rows.sum()), "positives": int(tally.positives.sum())}
        found.append({name: value, **counts, **evaluate.measures(tally)})
    return found


def samples(fitted: Fitted, encoder: Encoder, test: Scored, wanted: int) -> list[dict[str, Any]]:
    """Show predictions from the lowest score to the highest, with their strongest reasons."""
    ranked = np.argsort(test.score, kind="stable")
    shown = ranked[curves.spaced(len(ranked), wanted)]
    frame = test.frame.with_columns(score=pl.Series(test.score))[shown]
    columns = (*test.columns.keys, test.columns.target, "score")
    return explain.reasons(fitted, encoder.encode(frame), frame, columns)


def plots(test: Scored, features: pl.DataFrame, evaluate: Evaluate) -> dict[str, curves.Points]:
    """Give the points of each `plots/<name>.json`, which `dvc plots` draws."""
    tally, event = test.tally, test.columns.target
    return {
        "roc": curves.roc(tally),
        "pr": curves.precision_recall(tally),
        "pr_negative": curves.precision_recall(metrics.flipped(tally)),
        "calibration": curves.calibration(tally, evaluate.calibration_bins),
        "confusion": curves.confusion(tally, evaluate.threshold, event),
        "importance": features.to_dicts(),
    }


def draw(
    folder: Path, test: Scored, baseline: Rival, features: pl.DataFrame, evaluate: Evaluate
) -> None:
    """Write the figures of the test part as PNG."""
    tally, event = test.tally, test.columns.target
    both = {"model": tally, baseline.words: metrics.tally(test.target, baseline.score)}
    figures.roc(folder / "roc.png", both, event)
    figures.precision_recall(folder / "pr.png", tally, event)
    figures.calibration(folder / "calibration.png", tally, evaluate.calibration_bins, event)
    figures.confusion(folder / "confusion.png", tally, evaluate.threshold, event)
    figures.scores(folder / "scores.png", tally, evaluate.threshold, event)
    figures.importance(folder / "importance.png", features)


def run(
    featurize_folder: Path,
    train_folder: Path,
    evaluate_folder: Path,
    *,
    evaluate: Evaluate,
    seed: int,
) -> None:
    """Write metrics, baselines, the gate's decision, explanations, curves and predictions."""
    encoder, fitted, parts = scored.read(featurize_folder, train_folder)
    test = parts["test"]
    others = rivals(parts["train"].data, test, evaluate.baseline_run_id)
    explained = test.frame[curves.spaced(len(test.frame), evaluate.explained_rows)]
    features = explain.importance(fitted, encoder.encode(explained))
    results = judge(parts, others, evaluate, seed=seeds.derive(seed, "bootstrap"))
    results["slices"] = slices(test, evaluate)
    results["samples"] = samples(fitted, encoder, test, evaluate.samples)
    results |= {f"plots/{name}": points for name, points in plots(test, features, evaluate).items()}
    for name, result in results.items():
        files.write_json(evaluate_folder / f"{name}.json", _defined(result))
    files.write_parquet(evaluate_folder / "predictions.parquet", test.predictions())
    draw(evaluate_folder / "figures", test, list(others.values())[-1], features, evaluate)
    history = files.read_json(train_folder / "history.json")
    figures.history(evaluate_folder / "figures" / "history.png", history)


def _defined(value: Any) -> Any:
    """Copy nested lists and dictionaries with None where a metric is undefined."""
    if isinstance(value, dict):
        return {key: _defined(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_defined(item) for item in value]
    return None if isinstance(value, float) and math.isnan(value) else value


if __name__ == "__main__":
    command.main(run)
