import numpy as np
import pytest
import sklearn.metrics as reference

from tasks import metrics, selection
from tasks.metrics import Floats, Integers

ROWS, CANDIDATES = 500, 20


def rows(seed: int) -> tuple[Integers, Floats]:
    """Targets, and the log-odds that they were drawn from."""
    draw = np.random.default_rng(seed)
    log_odds = draw.normal(scale=2, size=ROWS)
    return (draw.random(ROWS) < 1 / (1 + np.exp(-log_odds))).astype(np.int64), log_odds


def noisy(log_odds: Floats, noise: float, seed: int) -> Floats:
    drawn = np.random.default_rng([seed, 1]).normal(scale=noise, size=len(log_odds))
    return 1 / (1 + np.exp(-log_odds - drawn))


def improvement(
    target: Integers, candidates: list[Floats], current: Floats, *, seed: int = 0
) -> dict[str, float]:
    return selection.improvement(
        target, candidates, current, quality=metrics.roc_auc, resamples=100, seed=seed
    )


def test_the_best_of_many_that_are_equal_gains_nothing():
    naive, estimated, lows = [], [], []
    for seed in range(8):
        target, log_odds = rows(seed)
        *candidates, current = (
            noisy(log_odds, 2, 100 * seed + number) for number in range(CANDIDATES + 1)
        )
        aucs = [reference.roc_auc_score(target, each) for each in candidates]
        gain = improvement(target, candidates, current)
        naive.append(max(aucs) - reference.roc_auc_score(target, current))
        estimated.append(gain["value"])
        lows.append(gain["low"])
    assert np.mean(naive) > 0.02, "as if something had been gained"
    assert abs(np.mean(estimated)) < np.mean(naive) / 3
    assert sum(low > 0 for low in lows) <= 1


def test_a_candidate_that_is_better_is_found_among_many_that_are_not():
    target, log_odds = rows(1)
    current = noisy(log_odds, 4, 1)
    candidates = [noisy(log_odds, 4, 10 + number) for number in range(CANDIDATES)]
    gain = improvement(target, [*candidates, noisy(log_odds, 0.1, 2)], current)
    assert gain["low"] > 0
    assert gain["low"] < gain["value"] < gain["high"]
    assert gain["probability_better"] > 0.99


def test_one_candidate_gains_what_the_paired_comparison_says():
    target, log_odds = rows(2)
    current, other = noisy(log_odds, 1, 1), noisy(log_odds, 0.5, 2)
    gain = improvement(target, [other], current)
    paired = metrics.paired_gain(target, other, current, resamples=100, seed=0)
    assert gain["value"] == pytest.approx(paired["value"], abs=0.01)
    assert gain["high"] - gain["low"] > paired["high"] - paired["low"], "of fewer rows"


def test_what_is_in_use_gains_nothing_over_itself():
    target, log_odds = rows(3)
    current = noisy(log_odds, 1, 1)
    gain = improvement(target, [current, current.copy()], current)
    assert gain == {"value": 0, "low": 0, "high": 0, "probability_better": 0.5}


def test_the_gain_is_in_what_is_better_when_it_is_more():
    target, log_odds = rows(4)
    current, worse = noisy(log_odds, 0.1, 1), noisy(log_odds, 3, 2)
    gain = selection.improvement(
        target,
        [worse],
        current,
        quality=lambda tally: -metrics.log_loss(tally),
        resamples=50,
        seed=0,
    )
    assert gain["high"] < 0
    assert gain["probability_better"] == 0


def test_the_gain_depends_on_the_seed_alone():
    target, log_odds = rows(5)
    current = noisy(log_odds, 1, 1)
    candidates = [noisy(log_odds, 1, 10 + number) for number in range(3)]
    first = improvement(target, candidates, current)
    assert improvement(target, candidates, current) == first
    assert improvement(target, candidates, current, seed=1) != first


def test_resamples_that_leave_the_metric_undefined_do_not_count():
    target = np.array([1] + [0] * 9)
    current, other = np.linspace(0, 0.5, 10), np.linspace(0.5, 0, 10)
    gain = improvement(target, [current, other], current)
    assert np.isfinite(list(gain.values())).all()
    alone = improvement(np.zeros(10, np.int64), [other], current)
    assert np.isnan(list(alone.values())).all()
