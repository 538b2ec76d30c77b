import math

import numpy as np
import pytest
import sklearn.metrics as reference
from hypothesis import given
from hypothesis import strategies as st

from tasks import metrics

THRESHOLD, BINS = 0.5, 10


def example(seed: int, *, rows: int = 500, ties: bool = False) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    score = generator.beta(3, 1, rows)
    target = (generator.random(rows) < score).astype(np.int8)
    return target, np.round(score, 1) if ties else score


def measure(tally: metrics.Tally) -> dict[str, float]:
    return metrics.measures(tally, threshold=THRESHOLD, bins=BINS)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("ties", [False, True])
def test_agrees_with_scikit_learn(*, seed: int, ties: bool) -> None:
    target, score = example(seed, ties=ties)
    predicted = score >= THRESHOLD
    got = measure(metrics.tally(target, score))
    expected = {
        "accuracy": reference.accuracy_score(target, predicted),
        "f1": reference.f1_score(target, predicted),
        "roc_auc": reference.roc_auc_score(target, score),
        "pr_auc": reference.average_precision_score(target, score),
        "pr_auc_negative": reference.average_precision_score(1 - target, 1 - score),
        "log_loss": reference.log_loss(target, score),
        "brier": reference.brier_score_loss(target, score),
    }
    assert {name: got[name] for name in expected} == pytest.approx(expected, abs=1e-12)


def test_calibration_error_of_hand_made_bins() -> None:
    target = np.array([0, 1, 1, 1, 1, 0])
    score = np.array([0.15, 0.15, 0.92, 0.94, 0.96, 0.98])
    # |0.15 - 1/2| over two rows, |0.95 - 3/4| over four
    expected = (2 * 0.35 + 4 * 0.20) / 6
    assert metrics.calibration_error(metrics.tally(target, score), BINS) == pytest.approx(expected)


def test_calibration_counts_every_row_and_a_score_of_one_falls_into_the_last_bin() -> None:
    target, score = np.array([0, 1, 1]), np.array([0.0, 0.95, 1.0])
    mean, observed, rows = metrics.calibration(metrics.tally(target, score), BINS)
    assert mean.tolist() == pytest.approx([0, 0.975])
    assert observed.tolist() == [0, 1]
    assert rows.tolist() == [1, 2]


def test_confusion_is_by_actual_then_predicted_and_the_threshold_predicts_positive() -> None:
    target, score = np.array([0, 0, 0, 1, 1]), np.array([0.1, 0.2, 0.9, 0.5, 0.4])
    matrix = metrics.confusion(metrics.tally(target, score), 0.5)
    assert matrix.tolist() == [[2, 1], [1, 1]]


def test_certain_and_wrong_is_finite() -> None:
    tally = metrics.tally(np.array([1, 0]), np.array([0.0, 1.0]))
    assert math.isfinite(metrics.log_loss(tally))
    assert metrics.roc_auc(tally) == 0


@pytest.mark.parametrize("only", [0, 1])
def test_one_class_alone_has_no_roc_auc(only: int) -> None:
    got = measure(metrics.tally(np.array([only, only]), np.array([0.3, 0.7])))
    assert math.isnan(got["roc_auc"])
    assert math.isnan(got["pr_auc_negative" if only else "pr_auc"])
    assert got["accuracy"] == 0.5


def test_no_rows_have_no_metrics() -> None:
    got = measure(metrics.tally(np.array([], np.int8), np.array([])))
    assert all(math.isnan(value) for value in got.values())


@given(st.integers(0, 2**32 - 1))
def test_row_order_does_not_change_a_bit(seed: int) -> None:
    target, score = example(seed, rows=60, ties=bool(seed % 2))
    order = np.random.default_rng(seed + 1).permutation(len(target))
    assert repr(measure(metrics.tally(target, score))) == repr(
        measure(metrics.tally(target[order], score[order]))
    )


@given(st.integers(0, 2**32 - 1))
def test_roc_auc_sees_ranks_only_and_swaps_with_the_classes(seed: int) -> None:
    target, score = example(seed, rows=60)
    auc = metrics.roc_auc(metrics.tally(target, score))
    assert repr(auc) == repr(metrics.roc_auc(metrics.tally(target, score / 7 + 0.1)))
    assert repr(auc) == repr(metrics.roc_auc(metrics.flipped(metrics.tally(target, score))))


def test_curves_run_from_corner_to_corner() -> None:
    tally = metrics.tally(*example(0))
    for curve in metrics.roc_curve(tally):
        assert (curve[0], curve[-1]) == (0, 1)
        assert (np.diff(curve) >= 0).all()
    recall, precision = metrics.pr_curve(tally)
    assert recall[-1] == 1
    assert precision[-1] == pytest.approx(tally.positives.sum() / tally.rows.sum())
    assert np.trapezoid(metrics.roc_curve(tally)[1], metrics.roc_curve(tally)[0]) == pytest.approx(
        metrics.roc_auc(tally)
    )


def bounds(seed: int) -> dict[str, tuple[float, float]]:
    return metrics.intervals(*example(0), measure, resamples=200, seed=seed)


def test_intervals_enclose_the_metric_and_are_as_wide_as_its_standard_error() -> None:
    target, score = example(0)
    auc = metrics.roc_auc(metrics.tally(target, score))
    low, high = bounds(1)["roc_auc"]
    assert low < auc < high
    positives = int(target.sum())
    negatives = len(target) - positives
    first, second = auc / (2 - auc), 2 * auc**2 / (1 + auc)
    variance = (  # Hanley & McNeil 1982
        auc * (1 - auc) + (positives - 1) * (first - auc**2) + (negatives - 1) * (second - auc**2)
    ) / (positives * negatives)
    assert high - low == pytest.approx(2 * 1.96 * math.sqrt(variance), rel=0.25)


def test_intervals_depend_on_the_seed_alone() -> None:
    assert bounds(1) == bounds(1)
    assert bounds(1) != bounds(2)


def test_an_interval_of_what_is_undefined_is_undefined() -> None:
    got = metrics.intervals(
        np.array([1, 1, 1]), np.array([0.1, 0.2, 0.3]), measure, resamples=100, seed=0
    )
    assert all(math.isnan(bound) for bound in got["roc_auc"])
    assert not any(math.isnan(bound) for bound in got["accuracy"])


def test_a_score_gains_nothing_over_itself() -> None:
    target, score = example(0)
    gain = metrics.paired_gain(target, score, score**2, resamples=100, seed=0)
    assert gain == {"value": 0, "low": 0, "high": 0, "probability_better": 0.5}


def test_the_paired_gain_is_more_certain_than_the_two_apart() -> None:
    target, score = example(0)
    other = score + np.random.default_rng(1).normal(0, 0.05, len(score))
    gain = metrics.paired_gain(target, score, other, resamples=300, seed=0)
    assert gain["low"] <= gain["value"] <= gain["high"]
    apart = metrics.intervals(target, score, measure, resamples=300, seed=0)["roc_auc"]
    assert gain["high"] - gain["low"] < (apart[1] - apart[0]) / 2
    assert gain["probability_better"] > 0.5
    back = metrics.paired_gain(target, other, score, resamples=300, seed=0)
    assert back["value"] == -gain["value"]
    assert back["probability_better"] == pytest.approx(1 - gain["probability_better"])


def test_a_gain_is_in_what_is_better_when_it_is_more() -> None:
    target, score = example(0)
    other = score**3
    gain = metrics.paired_gain(
        target, score, other, lambda tally: -metrics.brier(tally), resamples=100, seed=0
    )
    expected = reference.brier_score_loss(target, other) - reference.brier_score_loss(target, score)
    assert gain["value"] == pytest.approx(expected)
    assert 0 < gain["low"] < gain["value"] < gain["high"]
    assert gain["probability_better"] == 1
    back = metrics.paired_gain(target, score, other, metrics.brier, resamples=100, seed=0)
    assert back["value"] == -gain["value"]
    assert (back["low"], back["high"]) == pytest.approx((-gain["high"], -gain["low"]))


def test_a_gain_is_in_roc_auc_unless_another_quality_is_named() -> None:
    target, score = example(0)
    drawn = {"resamples": 50, "seed": 3}
    assert metrics.paired_gain(target, score, score[::-1], **drawn) == metrics.paired_gain(
        target, score, score[::-1], metrics.roc_auc, **drawn
    )


def test_a_summary_counts_ties_half_and_leaves_out_what_is_undefined() -> None:
    gains = np.array([np.nan, -1.0, 0.0, 0.0, 1.0, 1.0, np.nan])
    assert metrics.summary(gains)["probability_better"] == 3 / 5
    low, high = np.quantile(gains[1:6], metrics.INTERVAL)
    assert (metrics.summary(gains)["low"], metrics.summary(gains)["high"]) == (low, high)
    assert all(math.isnan(value) for value in metrics.summary(gains[:1]).values())


def test_rows_are_drawn_with_replacement_as_often_as_asked() -> None:
    drawn = list(metrics.drawn_rows(50, 20, seed=1))
    assert len(drawn) == 20
    assert all(rows.shape == (50,) and 0 <= rows.min() <= rows.max() < 50 for rows in drawn)
    left_out = [1 - len(np.unique(rows)) / 50 for rows in drawn]
    assert np.mean(left_out) == pytest.approx(1 / math.e, abs=0.05)
    assert all(
        np.array_equal(*pair) for pair in zip(drawn, metrics.drawn_rows(50, 20, 1), strict=True)
    )
