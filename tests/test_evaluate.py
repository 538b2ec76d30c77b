import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from pydantic import ValidationError

from tasks import evaluate, files, models, scored
from tasks.checkpoints import NOWHERE
from tasks.encoder import Encoder
from tasks.errors import VerbatimError
from tasks.evaluate import Evaluate
from tasks.examples import PARTS, Columns
from tasks.models.trees import Trees

COLUMNS = Columns(
    keys=("customer", "cutoff"),
    numeric=("recency", "noise"),
    categorical=("country",),
    target="churned",
    slice="country",
)
TREES = Trees(
    learning_rate=0.3,
    max_depth=3,
    min_child_weight=1,
    subsample=1,
    colsample_bynode=1,
    reg_lambda=1,
    device="cpu",
    max_rounds=20,
    early_stopping_rounds=20,
)
SECTION = Evaluate(
    threshold=0.5,
    calibration_bins=10,
    resamples=100,
    explained_rows=150,
    samples=7,
    baseline_run_id=None,
    min_accuracy=0.6,
    min_auc=0.6,
    min_gain=0,
    max_drift=0.25,
    drift_ignored=(),
)
ROWS = 400


def part(number: int) -> pl.DataFrame:
    """Customers who churn if they were not seen for long, and in one country less."""
    generator = np.random.default_rng(number)
    recency, country = generator.normal(size=ROWS), generator.integers(0, 3, ROWS)
    likely = 1 / (1 + np.exp(-2 * recency + 3 * (country == 2)))
    return pl.DataFrame(
        {
            "customer": np.arange(ROWS),
            "cutoff": [f"1998-0{number + 1}-01"] * ROWS,
            "recency": recency,
            "noise": np.where(country == 0, np.nan, generator.normal(size=ROWS)),
            "country": pl.Series(["at", "be", None]).gather(country),
            "churned": (generator.random(ROWS) < likely).astype(np.int8),
        }
    ).with_columns(pl.col("cutoff").str.to_date(), pl.col("noise").fill_nan(None))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders as `featurize` and `train` leave them."""
    folder = tmp_path_factory.mktemp("data")
    parts = {name: part(number) for number, name in enumerate(PARTS)}
    encoder = Encoder.fit(parts["train"], COLUMNS)
    for name, frame in parts.items():
        files.write_parquet(folder / "featurize" / f"{name}.parquet", frame)
    (folder / "featurize" / "encoder.json").write_text(encoder.to_json())
    files.write_json(folder / "featurize" / "examples.json", {"columns": asdict(COLUMNS)})
    history: list[dict[str, float]] = []
    fitted = TREES.fit(
        TREES.prepare(encoder.encode(parts["train"]), encoder.encode(parts["val"])),
        seed=1,
        report=lambda step, scores: history.append({"step": step, **scores}),
        checkpoints=NOWHERE,
    )
    (folder / "train").mkdir()
    fitted.save(folder / "train")
    files.write_json(folder / "train" / "history.json", history)
    return folder


def run(trained: Path, folder: Path, section: Evaluate = SECTION, seed: int = 1) -> Path:
    evaluate.run(trained / "featurize", trained / "train", folder, evaluate=section, seed=seed)
    return folder


@pytest.fixture(scope="module")
def evaluated(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run(trained, tmp_path_factory.mktemp("evaluate"))


def read(folder: Path, name: str) -> Any:
    return files.read_json(folder / f"{name}.json")


def test_everything_that_is_promised_is_there(evaluated: Path) -> None:
    names = {str(path.relative_to(evaluated)) for path in evaluated.rglob("*") if path.is_file()}
    assert names == {
        *(
            f"{name}.json"
            for name in ("metrics", "baselines", "drift", "gate", "slices", "samples")
        ),
        *(f"metrics/{name}.json" for name in ("train", "val", "test")),
        *(f"metrics/test_{name}.json" for name in ("base_rate", "one_feature")),
        *(f"plots/{name}.json" for name in ("roc", "pr", "pr_negative", "calibration")),
        *(f"plots/{name}.json" for name in ("confusion", "importance")),
        *(f"figures/{name}.png" for name in ("roc", "pr", "calibration", "confusion")),
        *(f"figures/{name}.png" for name in ("scores", "importance", "history")),
        "predictions.parquet",
    }


def test_the_metrics_are_those_of_the_predictions(evaluated: Path) -> None:
    from sklearn.metrics import log_loss, roc_auc_score

    predictions = files.read_parquet(evaluated / "predictions.parquet")
    assert predictions.columns == ["customer", "cutoff", "churned", "score"]
    target, score = predictions["churned"].to_numpy(), predictions["score"].to_numpy()
    metrics = read(evaluated, "metrics")
    assert metrics["test"]["roc_auc"] == pytest.approx(roc_auc_score(target, score), abs=1e-6)
    assert metrics["test"]["log_loss"] == pytest.approx(log_loss(target, score), abs=1e-6)
    assert read(evaluated, "metrics/test") == metrics["test"]
    for name, bounds in metrics["test_interval"].items():
        assert bounds["low"] <= metrics["test"][name] + 0.02, name
        assert bounds["high"] >= metrics["test"][name] - 0.02, name


def test_a_model_that_learned_beats_both_baselines_and_passes(evaluated: Path) -> None:
    baselines = read(evaluated, "baselines")
    assert list(baselines) == ["base_rate", "one_feature"]
    assert baselines["base_rate"]["test"]["roc_auc"] == 0.5
    assert baselines["one_feature"]["model"] == "recency alone"
    assert baselines["one_feature"]["gain"]["value"] > 0.02
    assert baselines["one_feature"]["gain"]["probability_better"] > 0.95
    gate = read(evaluated, "gate")
    assert gate["passed"]
    assert [check["name"] for check in gate["checks"]] == [
        "min_accuracy",
        "min_auc",
        "min_gain",
        "max_drift_features",
    ]


def test_each_slice_is_measured_the_missing_one_too(evaluated: Path) -> None:
    slices = read(evaluated, "slices")
    assert [row["country"] for row in slices] == [None, "at", "be"]
    assert sum(row["rows"] for row in slices) == ROWS
    assert slices[0]["positives"] / slices[0]["rows"] < 0.35


def test_samples_go_from_low_to_high_and_their_reasons_are_raw_values(evaluated: Path) -> None:
    samples, frame = read(evaluated, "samples"), part(PARTS.index("test"))
    assert len(samples) == SECTION.samples
    scores = [row["score"] for row in samples]
    assert scores == sorted(scores)
    assert scores[0] < 0.2
    assert scores[-1] > 0.8
    for row in samples:
        assert row["cutoff"] == "1998-04-01"
        raw = frame.row(row["customer"], named=True)
        moved = [abs(reason["contribution"]) for reason in row["reasons"]]
        assert moved == sorted(moved, reverse=True)
        for reason in row["reasons"]:
            expected = raw[reason["feature"]]
            assert reason["value"] == (
                pytest.approx(expected, abs=1e-6) if isinstance(expected, float) else expected
            )


def test_the_feature_that_matters_is_the_most_important(evaluated: Path) -> None:
    features = read(evaluated, "plots/importance")
    assert [row["feature"] for row in features] == ["recency", "country", "noise"]
    assert all(row.keys() == {"feature", "mean_abs_contribution"} for row in features)


def test_the_same_input_gives_the_same_bytes_and_another_seed_other_intervals(
    trained: Path, evaluated: Path, tmp_path: Path
) -> None:
    again, other = run(trained, tmp_path / "again"), run(trained, tmp_path / "other", seed=2)
    differ = {
        str(path.relative_to(evaluated))
        for path in evaluated.rglob("*")
        if path.is_file()
        and path.read_bytes() != (other / path.relative_to(evaluated)).read_bytes()
    }
    assert differ == {"metrics.json", "baselines.json", "gate.json"}
    assert read(other, "metrics")["test"] == read(evaluated, "metrics")["test"]
    for path in evaluated.rglob("*"):
        if path.is_file():
            assert path.read_bytes() == (again / path.relative_to(evaluated)).read_bytes(), path


def test_a_model_below_a_bound_is_written_down_but_does_not_fail_here(
    trained: Path, tmp_path: Path
) -> None:
    strict = SECTION.model_copy(update={"min_auc": 0.99})
    gate = read(run(trained, tmp_path, strict), "gate")
    assert not gate["passed"]
    assert [check["name"] for check in gate["checks"] if not check["passed"]] == ["min_auc"]


def test_a_test_part_that_drifted_fails_the_gate_by_name(trained: Path) -> None:
    _, _, parts = scored.read(trained / "featurize", trained / "train")
    encoder = Encoder.fit(parts["train"].frame, COLUMNS)
    moved = parts["test"].frame.with_columns(pl.col("recency") * 100)
    test = replace(parts["test"], frame=moved, data=encoder.encode(moved))
    others = evaluate.rivals(parts["train"].data, test, None)
    gate = evaluate.judge({**parts, "test": test}, others, SECTION, seed=1)["gate"]
    failed = [check for check in gate["checks"] if not check["passed"]]
    assert [check["name"] for check in failed] == ["max_drift_features"]
    assert "to test: recency" in failed[0]["why"]


def test_without_a_slice_column_there_are_no_slices(trained: Path) -> None:
    _, _, parts = scored.read(trained / "featurize", trained / "train")
    test = replace(parts["test"], columns=replace(COLUMNS, slice=None))
    assert evaluate.slices(test, SECTION) == []


def test_a_slice_of_one_class_has_no_roc_auc_and_is_valid_json(
    trained: Path, tmp_path: Path
) -> None:
    _, _, parts = scored.read(trained / "featurize", trained / "train")
    lone = parts["test"].frame.with_columns(
        country=pl.when(pl.col("customer") == 0).then(pl.lit("zz")).otherwise("country")
    )
    rows = evaluate.slices(replace(parts["test"], frame=lone), SECTION)
    files.write_json(tmp_path / "slices.json", evaluate._defined(rows))
    assert read(tmp_path, "slices")[-1]["roc_auc"] is None


def test_scores_that_are_no_probabilities_are_refused() -> None:
    scores = np.array([0.5, 1.5, np.nan])
    with pytest.raises(
        VerbatimError, match=r"data/train: must be between 0 and 1 \(got 1.5, and 1"
    ):
        scored.probabilities(scores, "data/train")


@pytest.mark.parametrize(
    "wrong", [{"threshold": 1}, {"resamples": 10}, {"baseline_run_id": "latest"}, {"samples": 0}]
)
def test_wrong_parameters_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Evaluate(**{**SECTION.model_dump(), **wrong})


def test_contributions_and_bias_add_up_to_the_score(trained: Path) -> None:
    _, fitted, parts = scored.read(trained / "featurize", trained / "train")
    assert isinstance(fitted, type(models.load(trained / "train")))
    total = fitted.contributions(parts["test"].data).sum(axis=1)
    assert 1 / (1 + np.exp(-total)) == pytest.approx(parts["test"].score, abs=1e-5)


def test_points_for_plots_are_plain_lists(evaluated: Path) -> None:
    for path in (evaluated / "plots").iterdir():
        points = json.loads(path.read_text())
        assert points
        assert all(isinstance(point, dict) for point in points)


@pytest.mark.filterwarnings("ignore")  # of MLflow: its own, and of what it uses
def test_a_past_run_is_the_gates_baseline_on_the_same_rows(
    trained: Path, evaluated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tasks import tracking

    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    example = part(0).select(COLUMNS.features).head(3)
    with tracking.recording("past", experiment="churn", key="0" * 64, tags={}) as past:
        encoder = trained / "featurize" / "encoder.json"
        past.model("trees", trained / "train", encoder, example=example)
    section = SECTION.model_copy(update={"baseline_run_id": past.run_id})
    folder = run(trained, tmp_path / "evaluate", section)
    baseline = read(folder, "baselines")["baseline_run"]
    assert baseline["test"] == pytest.approx(read(evaluated, "metrics/test"), abs=1e-6)
    assert baseline["gain"] == {"value": 0, "low": 0, "high": 0, "probability_better": 0.5}
    checks = {check["name"]: check for check in read(folder, "gate")["checks"]}
    assert checks["max_drift_scores"]["observed"] == 0
    assert f"over run {past.run_id[:8]}" in checks["min_gain"]["why"]
    assert read(folder, "metrics")["test"] == read(evaluated, "metrics/test")
