"""The learner `trees`, on examples of which one number and one category tell the target."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tasks import models
from tasks.encoder import MISSING, UNKNOWN, Dataset
from tasks.errors import ParamsError
from tasks.models import trees
from tasks.models.trees import FittedTrees, Trees

SETTINGS = {
    "learning_rate": 0.3,
    "max_depth": 3,
    "min_child_weight": 1,
    "subsample": 0.7,
    "colsample_bynode": 0.7,
    "reg_lambda": 1,
    "max_rounds": 60,
    "early_stopping_rounds": 5,
}
TREES = Trees.model_validate(SETTINGS)


def examples(seed: int, rows: int = 600) -> Dataset:
    random = np.random.default_rng(seed)
    numeric = random.normal(size=(rows, 3)).astype(np.float32)
    categorical = random.integers(2, 6, size=(rows, 1)).astype(np.int32)
    log_odds = 2 * numeric[:, 0] + np.where(categorical[:, 0] == 3, 2, -1)
    target = (random.random(rows) < 1 / (1 + np.exp(-log_odds))).astype(np.float32)
    numeric[::7, 1] = np.nan
    categorical[::11] = MISSING
    return Dataset(numeric, categorical, target, ("strong", "gappy", "noise", "kind"), (6,))


TRAIN, VAL, TEST = examples(1), examples(2), examples(3)


def fit(seed: int = 5, **settings: Any) -> FittedTrees:
    learner = Trees.model_validate(SETTINGS | settings)
    return learner.fit(TRAIN, VAL, seed=seed, report=lambda _step, _scores: None)


@pytest.fixture(scope="module")
def fitted() -> FittedTrees:
    return fit()


def log_loss(target: Any, probability: Any) -> float:
    return float(-np.mean(np.log(np.where(target == 1, probability, 1 - probability))))


def only(data: Dataset, rows: Any) -> Dataset:
    assert data.target is not None
    numeric, categorical = data.numeric[rows], data.categorical[rows]
    return replace(data, numeric=numeric, categorical=categorical, target=data.target[rows])


def model(fitted: FittedTrees) -> bytes:
    return bytes(fitted.booster.save_raw("ubj"))


def test_it_beats_the_base_rate(fitted: FittedTrees) -> None:
    assert TRAIN.target is not None
    base = np.full(len(TEST), TRAIN.target.mean())
    assert log_loss(TEST.target, fitted.predict(TEST)) < 0.85 * log_loss(TEST.target, base)


def test_predictions_have_the_stated_type(fitted: FittedTrees) -> None:
    scores = fitted.predict(TEST)
    assert scores.shape == (len(TEST),)
    assert [scores.dtype.name, fitted.contributions(TEST).dtype.name] == ["float64"] * 2


def test_it_is_read_back_as_it_was_saved(fitted: FittedTrees, tmp_path: Path) -> None:
    fitted.save(tmp_path / "train")
    loaded = models.load(tmp_path / "train")
    assert np.array_equal(loaded.predict(TEST), fitted.predict(TEST))
    assert loaded.importance().equals(fitted.importance())
    loaded.save(tmp_path / "again")
    for name in ("model.ubj", "learner.json"):
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "train" / name).read_bytes()


def test_predicting_leaves_the_bytes_alone(fitted: FittedTrees) -> None:
    before = model(fitted)
    fitted.predict(TEST)
    fitted.contributions(TEST)
    assert model(fitted) == before


def test_the_same_seed_gives_the_same_bytes(fitted: FittedTrees) -> None:
    assert model(fit(seed=5)) == model(fitted)
    assert model(fit(seed=6)) != model(fitted)


@pytest.mark.parametrize("threads", [2, 4, 0])
def test_threads_change_nothing(
    fitted: FittedTrees, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = model(fitted), fitted.predict(TEST), fitted.contributions(TEST)
    monkeypatch.setattr(trees, "_threads", lambda _data: threads)
    other = fit()
    assert model(other) == expected[0]
    assert np.array_equal(other.predict(TEST), expected[1])
    assert np.array_equal(other.contributions(TEST), expected[2])


def test_many_values_take_all_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    assert trees._threads(TRAIN) == 1
    monkeypatch.setattr(trees, "SMALL", len(TRAIN) * 4)
    assert trees._threads(TRAIN) == 0


def test_a_row_scores_alone_as_among_others(fitted: FittedTrees) -> None:
    alone = [fitted.predict(only(TEST, [row]))[0] for row in range(50)]
    assert np.array_equal(alone, fitted.predict(TEST)[:50])


def test_the_target_is_not_needed_to_predict(fitted: FittedTrees) -> None:
    assert np.array_equal(fitted.predict(replace(TEST, target=None)), fitted.predict(TEST))


def test_the_order_of_training_rows_does_not_matter_without_sampling() -> None:
    whole = Trees.model_validate(SETTINGS | {"subsample": 1, "colsample_bynode": 1})
    backwards = only(TRAIN, slice(None, None, -1))
    one, other = (
        whole.fit(data, VAL, seed=5, report=lambda _step, _scores: None).predict(TEST)
        for data in (TRAIN, backwards)
    )
    np.testing.assert_allclose(one, other, atol=1e-4)


def test_the_unit_of_a_number_does_not_matter(fitted: FittedTrees) -> None:
    doubled = [replace(data, numeric=data.numeric * 2) for data in (TRAIN, VAL, TEST)]
    other = TREES.fit(doubled[0], doubled[1], seed=5, report=lambda _step, _scores: None)
    assert np.array_equal(other.predict(doubled[2]), fitted.predict(TEST))


@pytest.mark.parametrize("code", [MISSING, UNKNOWN])
def test_a_missing_or_unknown_category_is_scored(fitted: FittedTrees, code: int) -> None:
    scores = fitted.predict(replace(TEST, categorical=np.full_like(TEST.categorical, code)))
    assert np.all((scores > 0) & (scores < 1))
    assert len(np.unique(scores)) > 1


def test_contributions_add_up_to_the_log_odds(fitted: FittedTrees) -> None:
    contributions, scores = fitted.contributions(TEST), fitted.predict(TEST)
    assert contributions.shape == (len(TEST), len(TEST.names) + 1)
    np.testing.assert_allclose(contributions.sum(axis=1), np.log(scores / (1 - scores)), atol=1e-4)


def test_importance_names_every_feature_the_strongest_first(fitted: FittedTrees) -> None:
    importance = fitted.importance()
    assert set(importance["feature"]) == set(TRAIN.names)
    assert importance["feature"][:2].sort().to_list() == ["kind", "strong"]
    assert importance["gain"].is_sorted(descending=True)


def test_each_step_is_reported_and_the_best_is_kept() -> None:
    history: list[tuple[int, dict[str, float]]] = []
    kept = TREES.fit(TRAIN, VAL, seed=5, report=lambda *step: history.append(step))
    assert [step for step, _ in history] == list(range(1, len(history) + 1))
    assert len(history) < TREES.steps
    losses = [scores["val_log_loss"] for _, scores in history]
    assert kept.booster.num_boosted_rounds() == 1 + losses.index(min(losses))
    assert len(history) == kept.booster.num_boosted_rounds() + TREES.early_stopping_rounds
    assert log_loss(VAL.target, kept.predict(VAL)) == pytest.approx(min(losses), abs=1e-5)
    assert {name for _, scores in history for name in scores} == {"train_log_loss", "val_log_loss"}


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"min_child_weight": 70}, r"min_child_weight: must .*got 70 on 600 rows.*below 5\d"),
        ({"min_child_weight": 1, "subsample": 0.01}, r"subsample \(0\.01\)"),
        ({"min_child_weight": 30, "reg_lambda": 1e12}, r"lower reg_lambda \(1e\+12\)"),
    ],
)
def test_settings_under_which_no_tree_can_split(settings: dict[str, float], named: str) -> None:
    with pytest.raises(ParamsError, match=named):
        fit(**settings)


def test_features_that_are_constant_are_named_as_a_cause() -> None:
    flat = replace(
        TRAIN, numeric=np.zeros_like(TRAIN.numeric), categorical=np.full_like(TRAIN.categorical, 2)
    )
    with pytest.raises(ParamsError, match="whether the features tell anything"):
        TREES.fit(flat, VAL, seed=5, report=lambda _step, _scores: None)


def test_a_refit_grows_as_many_trees_on_other_data(fitted: FittedTrees) -> None:
    rounds = fitted.booster.num_boosted_rounds()
    assert TREES.refit(VAL, fitted, seed=5).booster.num_boosted_rounds() == rounds
    again = TREES.refit(TRAIN, fitted, seed=5)
    assert np.array_equal(again.predict(TEST), fitted.predict(TEST))


@pytest.mark.parametrize("kept", ["numeric", "categorical"])
def test_one_kind_of_feature_is_enough(kept: str) -> None:
    def reduced(data: Dataset) -> Dataset:
        if kept == "numeric":
            names, sizes = data.names[:3], ()
            return replace(
                data, categorical=data.categorical[:, :0], names=names, cardinalities=sizes
            )
        return replace(data, numeric=data.numeric[:, :0], names=data.names[3:])

    fitted = TREES.fit(reduced(TRAIN), reduced(VAL), seed=5, report=lambda _step, _scores: None)
    assert np.std(fitted.predict(reduced(TEST))) > 0.05
