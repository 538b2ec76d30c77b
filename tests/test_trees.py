"""The learner `trees`, on examples of which one number and one category tell the target."""

import json
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tasks import models
from tasks.checkpoints import NOWHERE, Place
from tasks.devices import gpus
from tasks.encoder import MISSING, UNKNOWN, Dataset
from tasks.errors import Interrupted, ParamsError
from tasks.models import boosting, trees
from tasks.models.trees import FittedTrees, Trees

SETTINGS = {
    "learning_rate": 0.3,
    "max_depth": 3,
    "min_child_weight": 1,
    "subsample": 0.7,
    "colsample_bynode": 0.7,
    "reg_lambda": 1,
    "device": "cpu",
    "max_rounds": 60,
    "early_stopping_rounds": 5,
}
TREES = Trees.model_validate(SETTINGS)
WHOLE = {"subsample": 1, "colsample_bynode": 1}
QUIET: dict[str, Any] = {"report": lambda _step, _scores: None, "checkpoints": NOWHERE}


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
    return learner.fit(learner.prepare(TRAIN, VAL), seed=seed, **QUIET)


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
    monkeypatch.setattr(boosting, "threads", lambda _data: threads)
    other = fit()
    assert model(other) == expected[0]
    assert np.array_equal(other.predict(TEST), expected[1])
    assert np.array_equal(other.contributions(TEST), expected[2])


def test_many_values_take_all_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    assert boosting.threads(TRAIN) == 1
    monkeypatch.setattr(boosting, "SMALL", len(TRAIN) * 4)
    assert boosting.threads(TRAIN) == 0


def test_a_row_scores_alone_as_among_others(fitted: FittedTrees) -> None:
    alone = [fitted.predict(only(TEST, [row]))[0] for row in range(50)]
    assert np.array_equal(alone, fitted.predict(TEST)[:50])


def test_the_target_is_not_needed_to_predict(fitted: FittedTrees) -> None:
    assert np.array_equal(fitted.predict(replace(TEST, target=None)), fitted.predict(TEST))


def test_the_order_of_training_rows_does_not_matter_without_sampling() -> None:
    whole = Trees.model_validate(SETTINGS | WHOLE)
    backwards = only(TRAIN, slice(None, None, -1))
    one, other = (
        whole.fit(whole.prepare(data, VAL), seed=5, **QUIET).predict(TEST)
        for data in (TRAIN, backwards)
    )
    np.testing.assert_allclose(one, other, atol=1e-4)


def test_the_unit_of_a_number_does_not_matter(fitted: FittedTrees) -> None:
    doubled = [replace(data, numeric=data.numeric * 2) for data in (TRAIN, VAL, TEST)]
    other = TREES.fit(TREES.prepare(doubled[0], doubled[1]), seed=5, **QUIET)
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


def test_contributions_are_greatest_for_what_tells_the_target(fitted: FittedTrees) -> None:
    moved = np.abs(fitted.contributions(TEST)[:, :-1]).mean(axis=0)
    strongest = [TEST.names[position] for position in np.argsort(-moved)[:2]]
    assert sorted(strongest) == ["kind", "strong"]


def test_each_step_is_reported_and_the_best_is_kept() -> None:
    history: list[tuple[int, dict[str, float]]] = []
    kept = TREES.fit(
        TREES.prepare(TRAIN, VAL),
        seed=5,
        report=lambda *step: history.append(step),
        checkpoints=NOWHERE,
    )
    assert [step for step, _ in history] == list(range(1, len(history) + 1))
    assert len(history) < TREES.steps
    losses = [scores["val_log_loss"] for _, scores in history]
    assert kept.booster.num_boosted_rounds() == 1 + losses.index(min(losses))
    assert len(history) == kept.booster.num_boosted_rounds() + TREES.early_stopping_rounds
    assert log_loss(VAL.target, kept.predict(VAL)) == pytest.approx(min(losses), abs=1e-5)
    assert {name for _, scores in history for name in scores} == {"train_log_loss", "val_log_loss"}


@pytest.mark.parametrize(
    "settings",
    [{}, {"max_depth": 1}, {"max_depth": 9, "reg_lambda": 0}, {"learning_rate": 1}, WHOLE],
)
def test_validation_is_scored_in_its_bins_as_it_is_predicted(settings: dict[str, float]) -> None:
    learner = Trees.model_validate(SETTINGS | settings)
    parts = learner.prepare(TRAIN, VAL)
    kept = learner.fit(parts, seed=5, **QUIET)
    assert np.array_equal(parts.val_scores(kept), kept.predict(VAL))
    assert np.array_equal(parts.val_scores(kept), kept.predict(VAL)), "the second time too"


def test_what_is_prepared_once_serves_trainings_of_any_setting() -> None:
    settings = (
        {"max_depth": 1, "learning_rate": 0.9},
        {"subsample": 0.3, "reg_lambda": 50},
        {"colsample_bynode": 1, "min_child_weight": 20, "max_rounds": 7},
    )
    shared = TREES.prepare(TRAIN, VAL)
    for each in (*settings, *reversed(settings)):
        learner = Trees.model_validate(SETTINGS | each)
        one = learner.fit(shared, seed=5, **QUIET)
        assert model(one) == model(fit(**each))
        assert np.array_equal(shared.val_scores(one), fit(**each).predict(VAL))


def test_each_step_is_judged_after_it_was_reported() -> None:
    heard: list[tuple[str, int]] = []
    scores: dict[int, Any] = {}

    def judge(step: int, predict: Any) -> None:
        heard.append(("judged", step))
        scores[step] = predict()

    kept = TREES.fit(
        TREES.prepare(TRAIN, VAL),
        seed=5,
        report=lambda step, _: heard.append(("reported", step)),
        checkpoints=NOWHERE,
        judge=judge,
    )
    steps = range(1, kept.steps + TREES.early_stopping_rounds + 1)
    assert heard == [(what, step) for step in steps for what in ("reported", "judged")]
    assert np.array_equal(scores[kept.steps], kept.predict(VAL))
    assert model(kept) == model(fit(seed=5)), "to be judged changes nothing"
    for step in (1, kept.steps // 2):
        fewer = replace(kept, booster=kept.booster[:step])
        assert np.array_equal(scores[step], fewer.predict(VAL))


def test_what_the_judge_raises_ends_the_training() -> None:
    steps: list[int] = []

    def judge(step: int, _predict: Any) -> None:
        if step == 3:
            raise LookupError("no more of this")

    with pytest.raises(LookupError, match="no more of this"):
        TREES.fit(
            TREES.prepare(TRAIN, VAL),
            seed=5,
            report=lambda step, _: steps.append(step),
            checkpoints=NOWHERE,
            judge=judge,
        )
    assert steps == [1, 2, 3]


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
        TREES.fit(TREES.prepare(flat, VAL), seed=5, **QUIET)


def test_a_refit_grows_as_many_trees_on_other_data(fitted: FittedTrees) -> None:
    rounds = fitted.booster.num_boosted_rounds()
    assert TREES.refit(VAL, fitted, seed=5, **QUIET).booster.num_boosted_rounds() == rounds
    again = TREES.refit(TRAIN, fitted, seed=5, **QUIET)
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

    fitted = TREES.fit(TREES.prepare(reduced(TRAIN), reduced(VAL)), seed=5, **QUIET)
    assert np.std(fitted.predict(reduced(TEST))) > 0.05


def run_to_the_end(
    folder: Path, stops: list[int], data: Dataset = TRAIN, **settings: Any
) -> tuple[bytes, bytes, list[dict[str, float]]]:
    """Fit and refit, stopped after each of these steps, counted over both; give what came out."""
    learner = Trees.model_validate(SETTINGS | WHOLE | settings)
    wanted, taken = list(stops), 0

    def attempt() -> tuple[bytes, bytes, list[dict[str, float]]]:
        place = Place(folder, "of these inputs", seconds=1e-9)
        history: list[dict[str, float]] = []

        def report(step: int, scores: dict[str, float]) -> None:
            nonlocal taken
            taken += 1
            if any("val" in name for name in scores):
                history.append({"step": step, **scores})
            if wanted and taken >= wanted[0]:
                wanted.pop(0)
                place.stop.signal = signal.SIGTERM

        fitted = learner.fit(
            learner.prepare(data, VAL),
            seed=5,
            report=report,
            checkpoints=place.phase("fit", history),
        )
        again = place.phase("refit", [])
        refit = learner.refit(data, fitted, seed=5, report=report, checkpoints=again)
        return model(fitted), model(refit), history

    while True:
        try:
            return attempt()
        except Interrupted:
            assert not wanted or taken < wanted[0]


@pytest.mark.parametrize(("threads", "cuts"), [(1, (1, 1, 2, 3)), (2, (2,))])
def test_trees_that_were_cut_off_grow_on_as_if_nothing_had_been(
    threads: int, cuts: tuple[int, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(boosting, "threads", lambda _data: threads)
    monkeypatch.setattr(trees, "SECONDS_BETWEEN_SCORES", 0)
    expected = run_to_the_end(tmp_path / "whole", [])
    steps = len(expected[2])
    draw = np.random.default_rng(threads)
    last = steps + steps - SETTINGS["early_stopping_rounds"]
    for attempt, count in enumerate(cuts):
        stops = sorted(draw.integers(1, last + 1, size=count).tolist())
        assert run_to_the_end(tmp_path / str(attempt), stops) == expected, stops
    edges = [1, steps - 1, steps, steps + 1, last]
    assert threads > 1 or run_to_the_end(tmp_path / "edges", edges) == expected


def test_it_stops_where_xgboost_itself_would() -> None:
    import xgboost

    known, unknown = boosting.matrix(TRAIN), boosting.matrix(VAL)
    for settings in ({}, WHOLE, {"early_stopping_rounds": 1}, {"max_rounds": 4}):
        learner = Trees.model_validate(SETTINGS | settings)
        kept = learner.fit(learner.prepare(TRAIN, VAL), seed=5, **QUIET)
        booster = xgboost.train(
            learner._settings(TRAIN, 5),
            known,
            num_boost_round=learner.max_rounds,
            evals=[(known, "train"), (unknown, "val")],
            early_stopping_rounds=learner.early_stopping_rounds,
            verbose_eval=False,
        )
        assert model(kept) == booster[: booster.best_iteration + 1].save_raw("ubj")


@pytest.mark.filterwarnings("ignore:.*Empty dataset")
def test_of_equal_losses_the_first_counts() -> None:
    losses: list[float] = []
    kept = TREES.fit(
        TREES.prepare(TRAIN, only(VAL, slice(0))),  # of which the loss is always 0
        seed=5,
        report=lambda _, scores: losses.append(scores["val_log_loss"]),
        checkpoints=NOWHERE,
    )
    assert losses == [0] * (1 + TREES.early_stopping_rounds)
    assert kept.steps == 1


def test_where_sampling_was_cut_off_it_starts_anew_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(trees, "SECONDS_BETWEEN_SCORES", 0)
    for sampling in ({"subsample": 0.7}, {"colsample_bynode": 0.7}):
        (name,) = sampling
        expected = run_to_the_end(tmp_path / name / "whole", [], **sampling)
        steps = len(expected[2])
        assert run_to_the_end(tmp_path / name / "fit", [3], **sampling) == expected
        told = capsys.readouterr().out
        assert told.count("starts from the beginning: XGBoost 3.2 does not save") == 1
        assert "models.trees.subsample: 1 and models.trees.colsample_bynode: 1" in told
        _, refit, _ = run_to_the_end(tmp_path / name / "refit", [steps + 2], **sampling)
        told = capsys.readouterr().out
        assert told.count("starts from the beginning") == 1
        assert f"goes on after step {steps}," in told, "what was fitted is not fitted again"
        assert refit == expected[1]


def test_memory_of_a_gpu_that_ran_out_is_told_with_what_to_do() -> None:
    import xgboost

    ran_out = xgboost.core.XGBoostError("std::bad_alloc: cudaErrorMemoryAllocation: out of memory")
    with (
        pytest.raises(
            ParamsError, match=r"device: must .*600 rows of 4 features.*\n.*device to cpu"
        ),
        boosting.memory_of("cuda", TRAIN),
    ):
        raise ran_out
    for device, error in (("cpu", ran_out), ("cuda", xgboost.core.XGBoostError("another"))):
        with pytest.raises(xgboost.core.XGBoostError), boosting.memory_of(device, TRAIN):
            raise error


def test_a_device_that_is_not_there_is_named() -> None:
    if gpus():
        pytest.skip("there is one")
    with pytest.raises(ParamsError, match=r"models\.trees\.device: must be cpu or auto"):
        fit(device="cuda")
    assert model(fit(device="auto")) == model(fit())


def test_it_is_said_where_trees_grew(fitted: FittedTrees, tmp_path: Path) -> None:
    fitted.save(tmp_path)
    learner = json.loads((tmp_path / "learner.json").read_text())
    assert (learner["device"], learner["deterministic"]) == ("cpu", True)
