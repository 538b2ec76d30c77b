import dataclasses
import math
from typing import Any

import pytest
from pydantic import ValidationError

from tasks.gate import Bounds, Evidence, judge

BOUNDS = Bounds(min_accuracy=0.8, min_auc=0.7, min_gain=0.01, max_drift=0.25, drift_ignored=())
GAIN = {"value": 0.02, "low": 0.005, "high": 0.035, "probability_better": 0.99}
GOOD = Evidence(
    accuracy=0.9,
    roc_auc=0.8,
    baseline="recency alone",
    gain=GAIN,
    score_drift=None,
    feature_drift={"visits": 0.1, "age_days": 0.2},
)


def checks(bounds: Bounds = BOUNDS, **changed: Any) -> tuple[bool, dict[str, Any]]:
    decision = judge(bounds, dataclasses.replace(GOOD, **changed))
    return decision["passed"], {check["name"]: check for check in decision["checks"]}


def test_a_good_model_passes_every_check() -> None:
    passed, by_name = checks(score_drift=0.1)
    assert passed
    assert all(check["passed"] for check in by_name.values())
    assert list(by_name) == [
        "min_accuracy",
        "min_auc",
        "min_gain",
        "max_drift_features",
        "max_drift_scores",
    ]


@pytest.mark.parametrize(
    ("name", "changed", "sentence"),
    [
        ("min_accuracy", {"accuracy": 0.79}, "accuracy on test 0.7900 is below 0.8"),
        ("min_auc", {"roc_auc": 0.69}, "ROC AUC on test 0.6900 is below 0.7"),
        ("min_gain", {"gain": {**GAIN, "value": 0.001}}, "over recency alone 0.0010 is below"),
        ("max_drift_scores", {"score_drift": 0.3}, "recency alone's, 0.3000, exceeds 0.25"),
        ("max_drift_features", {"feature_drift": {"a": 0.1, "b": 0.3}}, "to test: b 0.3000"),
    ],
)
def test_one_bad_number_fails_its_check_and_the_gate(
    name: str, changed: dict[str, Any], sentence: str
) -> None:
    passed, by_name = checks(**changed)
    assert not passed
    assert [key for key, check in by_name.items() if not check["passed"]] == [name]
    assert sentence in by_name[name]["why"]


def test_a_bound_that_is_just_reached_is_enough() -> None:
    reached = {"accuracy": 0.8, "roc_auc": 0.7, "gain": {**GAIN, "value": 0.01}}
    assert checks(**reached, score_drift=0.25, feature_drift={"a": 0.25})[0]


def test_numbers_are_compared_as_they_are_written() -> None:
    assert checks(accuracy=0.8 - 1e-9)[0]
    assert not checks(accuracy=0.8 - 1e-5)[0]


def test_the_gain_is_told_with_its_interval() -> None:
    why = checks()[1]["min_gain"]["why"]
    assert "0.0050 to 0.0350" in why
    assert "99.0%" in why


def test_an_undefined_metric_fails() -> None:
    nowhere = dict.fromkeys(GAIN, math.nan)
    passed, by_name = checks(roc_auc=math.nan, gain=nowhere)
    assert not passed
    for name in ("min_auc", "min_gain"):
        assert by_name[name]["observed"] is None
        assert "one class only" in by_name[name]["why"]


@pytest.mark.parametrize("pattern", ["age_days", "age_*"])
def test_ignored_features_may_drift(pattern: str) -> None:
    drifting = {"visits": 0.1, "age_days": 9.0}
    assert not checks(feature_drift=drifting)[0]
    bounds = BOUNDS.model_copy(update={"drift_ignored": (pattern,)})
    passed, by_name = checks(bounds, feature_drift=drifting)
    assert passed
    assert by_name["max_drift_features"]["observed"] == 0.1
    assert "1 features judged (1 are ignored)" in by_name["max_drift_features"]["why"]


def test_a_table_without_judged_features_passes() -> None:
    bounds = BOUNDS.model_copy(update={"drift_ignored": ("*",)})
    assert checks(bounds)[1]["max_drift_features"]["observed"] is None
    assert checks(bounds)[0]


def test_many_drifting_features_are_counted_and_the_worst_named() -> None:
    why = checks(feature_drift={f"f{number:02}": 1 + number for number in range(30)})[1][
        "max_drift_features"
    ]["why"]
    assert "30 drift over" in why
    assert "f29 30.0000, f28" in why
    assert why.endswith("and 20 more")


@pytest.mark.parametrize("wrong", [{"min_auc": 1.2}, {"max_drift": 0}, {"max_dirft": 1}])
def test_impossible_bounds_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Bounds(**{**BOUNDS.model_dump(), **wrong})
