"""Champion against challenger, on rows whose scores are made as each case wants them."""

from datetime import date

import numpy as np
import polars as pl
import pytest

from tasks import judgement, metrics
from tasks.judgement import Contender, Promote, Rows, Verdict

ROWS = 4000
PROMOTE = Promote(metric="roc_auc", margin=0.01, slice_margin=0.02, slice_rows=500, resamples=200)
OLD, NEW = date(1998, 4, 1), date(1998, 5, 1)
MEASURES = metrics.by_name(threshold=0.5, bins=10)

draw = np.random.default_rng(7)
TARGET = draw.integers(0, 2, ROWS)
NOISE = draw.random(ROWS)
COUNTRY = np.where(np.arange(ROWS) % 4 == 0, "fr", "de")


def scores(signal: float | np.ndarray, noise: np.ndarray = NOISE) -> np.ndarray:
    """Give probabilities that tell the target the better the stronger the signal."""
    return np.clip(0.5 + signal * (TARGET - 0.5) + (noise - 0.5), 0, 1)


def judged(champion: np.ndarray, challenger: np.ndarray, **changed) -> Verdict:
    rows = Rows(changed.pop("target", TARGET), changed.pop("slices", pl.Series("country", COUNTRY)))
    known = changed.pop("known", NEW)
    return judgement.judge(
        rows,
        Contender("version 1", OLD, champion),
        Contender("version 2", known, challenger),
        PROMOTE.model_copy(update=changed),
        measures=MEASURES,
        seed=3,
    )


@pytest.mark.parametrize("known", [OLD, NEW])
@pytest.mark.parametrize("metric", ["roc_auc", "log_loss", "brier", "accuracy"])
def test_a_better_one_is_promoted_however_old_its_data_and_by_any_metric(known: date, metric: str):
    verdict = judged(scores(0.3), scores(0.5), known=known, metric=metric)
    assert verdict.promoted
    assert "it is better, gain +" in verdict.reason
    assert verdict.evidence["gain"]["low"] > 0


@pytest.mark.parametrize("metric", ["roc_auc", "log_loss", "brier", "accuracy"])
def test_a_worse_one_is_kept_out_even_if_it_knows_more(metric: str):
    verdict = judged(scores(0.5), scores(0.3), metric=metric)
    assert not verdict.promoted
    assert "it is worse" in verdict.reason


def test_an_equal_one_is_promoted_only_if_it_knows_newer_data():
    assert judged(scores(0.4), scores(0.4), known=NEW).promoted
    kept = judged(scores(0.4), scores(0.4), known=OLD)
    assert not kept.promoted
    assert "knows nothing newer" in kept.reason
    assert not judged(scores(0.4), scores(0.4), known=date(1998, 3, 1)).promoted


def test_a_newer_one_that_may_be_worse_by_more_than_the_margin_is_kept_out():
    other = scores(0.4, draw.random(ROWS))  # of the same quality, but the interval is wide
    assert judged(scores(0.4), other, margin=0.1).promoted
    kept = judged(scores(0.4), other, margin=0.0001)
    assert not kept.promoted
    assert "more than promote.margin 0.0001" in kept.reason


def test_one_that_is_worse_on_a_slice_is_kept_out_though_it_is_better():
    challenger = scores(np.where(COUNTRY == "fr", 0.1, 0.7))
    assert judged(scores(0.3), challenger, slices=None).promoted
    kept = judged(scores(0.3), challenger)
    assert not kept.promoted
    assert "on the slice country=fr (1,000 rows) it is worse" in kept.reason
    assert kept.evidence["slices"][0]["slice"] == "country=fr"
    assert judged(scores(0.3), challenger, slice_rows=1001).promoted  # too small to be judged


def test_rows_of_one_class_cannot_judge():
    kept = judged(scores(0.3), scores(0.5), target=np.ones(ROWS, np.int64))
    assert not kept.promoted
    assert "one class only" in kept.reason


def test_the_evidence_tells_of_both_on_the_same_rows():
    verdict = judged(scores(0.3), scores(0.5))
    both = verdict.evidence["champion"], verdict.evidence["challenger"]
    for told, score in zip(both, (scores(0.3), scores(0.5)), strict=True):
        assert told["roc_auc"] == metrics.roc_auc(metrics.tally(TARGET, score))
        assert told["low"] < told["roc_auc"] < told["high"]
    assert [told["dataset_version"] for told in both] == ["1998-04-01", "1998-05-01"]
    assert verdict.evidence["rows"] == ROWS


def test_the_same_seed_gives_the_same_verdict():
    assert judged(scores(0.3), scores(0.5)) == judged(scores(0.3), scores(0.5))
