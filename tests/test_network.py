"""The learner `network`, on examples of which one number and one category tell the target."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_trees import TEST, TRAIN, VAL, examples, log_loss, only

from tasks import devices, metrics, models
from tasks.checkpoints import NOWHERE
from tasks.encoder import MISSING, UNKNOWN, Dataset
from tasks.errors import ParamsError
from tasks.models.network import FittedNetwork, Network

SETTINGS = {
    "members": 3,
    "width": 16,
    "depth": 2,
    "dropout": 0.1,
    "number_bins": 8,
    "number_embedding": 4,
    "category_embedding": 4,
    "learning_rate": 0.01,
    "warmup_epochs": 0.5,
    "weight_decay": 0.01,
    "gradient_clip_norm": 1.0,
    "class_weight": "none",
    "max_epochs": 12,
    "early_stopping_epochs": 4,
    "batch_size": 50,
    "micro_batch_size": 50,
    "device": "cpu",
    "precision": "auto",
    "threads": 1,
    "processes": 1,
    "compile": False,
    "deterministic": True,
}
NETWORK = Network.model_validate(SETTINGS)
History = list[tuple[int, dict[str, float]]]


def quiet(_step: int, _scores: dict[str, float]) -> None:
    pass


def fit(train: Dataset = TRAIN, val: Dataset = VAL, *, seed: int = 5, **settings: Any) -> Any:
    learner = Network.model_validate(SETTINGS | settings)
    return learner.fit(learner.prepare(train, val), seed=seed, report=quiet, checkpoints=NOWHERE)


def refit(data: Dataset, fitted: FittedNetwork) -> FittedNetwork:
    return NETWORK.refit(data, fitted, seed=5, report=quiet, checkpoints=NOWHERE)


@pytest.fixture(scope="module")
def fitted() -> FittedNetwork:
    return fit()


def weights(fitted: FittedNetwork) -> dict[str, bytes]:
    return {name: each.numpy().tobytes() for name, each in fitted.network.state_dict().items()}


def test_it_beats_the_base_rate(fitted: FittedNetwork) -> None:
    base = np.full(len(TEST), TRAIN.target.mean())
    assert log_loss(TEST.target, fitted.predict(TEST)) < 0.85 * log_loss(TEST.target, base)


def test_predictions_have_the_stated_type(fitted: FittedNetwork) -> None:
    scores = fitted.predict(TEST)
    assert scores.shape == (len(TEST),)
    assert [scores.dtype.name, fitted.contributions(TEST).dtype.name] == ["float64"] * 2
    assert fitted.predict(only(TEST, slice(0))).shape == (0,)


def test_it_is_read_back_as_it_was_saved(fitted: FittedNetwork, tmp_path: Path) -> None:
    fitted.save(tmp_path / "train")
    loaded = models.load(tmp_path / "train")
    assert np.array_equal(loaded.predict(TEST), fitted.predict(TEST))
    loaded.save(tmp_path / "again")
    for name in ("model.safetensors", "learner.json"):
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "train" / name).read_bytes()


def test_the_same_seed_gives_the_same_bytes(fitted: FittedNetwork) -> None:
    assert weights(fit(seed=5)) == weights(fitted)
    assert weights(fit(seed=6)) != weights(fitted)


def test_what_was_computed_before_does_not_matter(fitted: FittedNetwork) -> None:
    before = torch.get_num_threads()
    torch.manual_seed(99)
    torch.set_num_threads(2)
    drawn = torch.get_rng_state()
    try:
        again = fit()
        assert torch.get_num_threads() == 2
        assert not torch.are_deterministic_algorithms_enabled()
        assert torch.equal(torch.get_rng_state(), drawn)
    finally:
        torch.set_num_threads(before)
    assert weights(again) == weights(fitted)


def test_a_row_scores_alone_as_among_others(fitted: FittedNetwork) -> None:
    alone = [fitted.predict(only(TEST, [row]))[0] for row in range(50)]
    np.testing.assert_allclose(alone, fitted.predict(TEST)[:50], atol=1e-6)


def test_the_target_is_not_needed_to_predict(fitted: FittedNetwork) -> None:
    assert np.array_equal(fitted.predict(replace(TEST, target=None)), fitted.predict(TEST))


def test_the_unit_of_a_number_does_not_matter(fitted: FittedNetwork) -> None:
    doubled = [replace(data, numeric=data.numeric * 2) for data in (TRAIN, VAL, TEST)]
    other = fit(doubled[0], doubled[1])
    np.testing.assert_allclose(other.predict(doubled[2]), fitted.predict(TEST), atol=1e-6)


@pytest.mark.parametrize("code", [MISSING, UNKNOWN])
def test_a_missing_or_unknown_category_is_scored(fitted: FittedNetwork, code: int) -> None:
    scores = fitted.predict(replace(TEST, categorical=np.full_like(TEST.categorical, code)))
    assert np.all((scores > 0) & (scores < 1))
    assert len(np.unique(scores)) > 1


def test_an_unknown_category_is_the_mean_of_the_known(fitted: FittedNetwork) -> None:
    table = fitted.network.categories.table.detach().numpy()
    rows = np.bincount(TRAIN.categorical[:, 0], minlength=len(table))
    assert rows[UNKNOWN] == 0
    np.testing.assert_allclose(table[UNKNOWN], rows @ table / rows.sum(), atol=1e-5)


def test_contributions_add_up_to_the_log_odds(fitted: FittedNetwork) -> None:
    contributions, scores = fitted.contributions(TEST), fitted.predict(TEST)
    assert contributions.shape == (len(TEST), len(TEST.names) + 1)
    np.testing.assert_allclose(contributions.sum(axis=1), np.log(scores / (1 - scores)), atol=1e-5)
    rest, log_odds = contributions[:, -1], contributions.sum(axis=1)
    assert rest.std() < 0.01 * log_odds.std(), "the quadrature misses little"


def test_contributions_are_greatest_for_what_tells_the_target(fitted: FittedNetwork) -> None:
    moved = np.abs(fitted.contributions(TEST)[:, :-1]).mean(axis=0)
    strongest = [TEST.names[position] for position in np.argsort(-moved)[:2]]
    assert sorted(strongest) == ["kind", "strong"]


def test_each_epoch_is_reported_and_the_best_is_kept() -> None:
    history: History = []
    kept = NETWORK.fit(
        NETWORK.prepare(TRAIN, VAL),
        seed=5,
        report=lambda *step: history.append(step),
        checkpoints=NOWHERE,
    )
    assert [step for step, _ in history] == list(range(1, len(history) + 1))
    assert len(history) <= NETWORK.steps
    losses = [scores["val_log_loss"] for _, scores in history]
    assert kept.epochs == 1 + losses.index(min(losses))
    assert set(history[0][1]) == {"train_log_loss", "val_log_loss", "val_roc_auc"}
    calibrated = log_loss(VAL.target, kept.predict(VAL))
    assert min(losses) - 0.05 < calibrated < min(losses) + 0.01


def test_validation_is_scored_where_it_was_placed_as_it_is_predicted() -> None:
    parts = NETWORK.prepare(TRAIN, VAL)
    kept = NETWORK.fit(parts, seed=5, report=quiet, checkpoints=NOWHERE)
    assert np.array_equal(parts.val_scores(kept), kept.predict(VAL))


def test_what_is_prepared_once_serves_trainings_of_any_setting() -> None:
    settings: tuple[dict[str, Any], ...] = (
        {"number_bins": 3, "width": 8, "max_epochs": 3},
        {"class_weight": "balanced", "depth": 1, "members": 2, "max_epochs": 2},
    )
    shared = NETWORK.prepare(TRAIN, VAL)
    for each in (*settings, settings[0]):
        learner = Network.model_validate(SETTINGS | each)
        one = learner.fit(shared, seed=5, report=quiet, checkpoints=NOWHERE)
        alone = fit(**each)
        assert weights(one) == weights(alone)
        assert np.array_equal(shared.val_scores(one), alone.predict(VAL))


def test_each_epoch_is_judged_after_it_was_reported() -> None:
    heard: list[tuple[str, int]] = []
    losses: dict[int, float] = {}
    judged: dict[int, Any] = {}

    def report(step: int, scores: dict[str, float]) -> None:
        heard.append(("reported", step))
        losses[step] = scores["val_log_loss"]

    def judge(step: int, predict: Any) -> None:
        heard.append(("judged", step))
        judged[step] = predict()

    kept = NETWORK.fit(
        NETWORK.prepare(TRAIN, VAL), seed=5, report=report, checkpoints=NOWHERE, judge=judge
    )
    assert heard == [(what, step) for step in sorted(losses) for what in ("reported", "judged")]
    target = VAL.target.astype(np.int64)
    for step, scores in judged.items():
        assert metrics.log_loss(metrics.tally(target, scores)) == losses[step]
    uncalibrated = replace(kept, slope=1.0, intercept=0.0)
    np.testing.assert_allclose(judged[kept.steps], uncalibrated.predict(VAL), atol=1e-6)


def test_to_be_judged_changes_nothing(fitted: FittedNetwork) -> None:
    judged = NETWORK.fit(
        NETWORK.prepare(TRAIN, VAL),
        seed=5,
        report=quiet,
        checkpoints=NOWHERE,
        judge=lambda _, predict: predict(),
    )
    assert weights(judged) == weights(fitted)


def test_what_the_judge_raises_ends_the_training() -> None:
    steps: list[int] = []

    def judge(step: int, _predict: Any) -> None:
        if step == 2:
            raise LookupError("no more of this")

    with pytest.raises(LookupError, match="no more of this"):
        NETWORK.fit(
            NETWORK.prepare(TRAIN, VAL),
            seed=5,
            report=lambda step, _: steps.append(step),
            checkpoints=NOWHERE,
            judge=judge,
        )
    assert steps == [1, 2]


def test_training_stops_when_validation_does_not_improve() -> None:
    flipped = replace(VAL, target=1 - VAL.target)
    history: History = []
    NETWORK.fit(
        NETWORK.prepare(TRAIN, flipped),
        seed=5,
        report=lambda *step: history.append(step),
        checkpoints=NOWHERE,
    )
    assert len(history) < NETWORK.steps


def test_a_refit_takes_as_many_epochs_on_other_data(fitted: FittedNetwork) -> None:
    history: History = []
    other = NETWORK.refit(
        VAL, fitted, seed=5, report=lambda *step: history.append(step), checkpoints=NOWHERE
    )
    assert [step for step, _ in history] == list(range(1, fitted.epochs + 1))
    assert set(history[0][1]) == {"refit_train_log_loss"}
    assert (other.epochs, other.slope) == (fitted.epochs, fitted.slope)
    assert weights(other) != weights(fitted)
    assert np.array_equal(refit(TRAIN, fitted).predict(TEST), fitted.predict(TEST))


@pytest.mark.parametrize("kept", ["numeric", "categorical"])
def test_one_kind_of_feature_is_enough(kept: str) -> None:
    def reduced(data: Dataset) -> Dataset:
        if kept == "numeric":
            names, sizes = data.names[:3], ()
            return replace(
                data, categorical=data.categorical[:, :0], names=names, cardinalities=sizes
            )
        return replace(data, numeric=data.numeric[:, :0], names=data.names[3:])

    one = fit(reduced(TRAIN), reduced(VAL))
    assert np.std(one.predict(reduced(TEST))) > 0.05
    assert one.contributions(reduced(TEST)).shape == (len(TEST), len(reduced(TEST).names) + 1)


@pytest.mark.parametrize(
    "column",
    [
        np.full(600, 7),
        np.full(600, np.nan),
        np.where(np.arange(600) % 2, 3e38, -3e38),
        np.where(np.arange(600) % 2, np.nan, 1e-45),
        np.arange(600) % 2,
    ],
    ids=["constant", "all missing", "huge", "constant or missing", "two values"],
)
def test_odd_columns_are_taken(fitted: FittedNetwork, column: Any) -> None:
    def odd(data: Dataset) -> Dataset:
        numeric = data.numeric.copy()
        numeric[:, 2] = column
        return replace(data, numeric=numeric)

    one = fit(odd(TRAIN), odd(VAL))
    usual = log_loss(TEST.target, fitted.predict(TEST))
    assert log_loss(TEST.target, one.predict(odd(TEST))) < usual + 0.02
    assert np.isfinite(one.contributions(odd(TEST))).all()


def test_scores_stay_calibrated_when_classes_are_weighed() -> None:
    def rare(seed: int) -> Dataset:
        data = examples(seed, 6000)
        return only(data, np.flatnonzero((data.target == 0) | (np.arange(6000) % 5 == 0)))

    train, val, test = (rare(seed) for seed in (21, 22, 23))
    assert test.target.mean() < 0.2
    for rule in ("none", "balanced"):
        scores = fit(train, val, class_weight=rule, max_epochs=3).predict(test)
        assert scores.mean() == pytest.approx(test.target.mean(), abs=0.02), rule


def test_micro_batches_add_up_to_the_batch() -> None:
    history: dict[int, History] = {}
    for micro in (50, 20, 7):
        learner = Network.model_validate(SETTINGS | {"dropout": 0, "micro_batch_size": micro})
        steps = history.setdefault(micro, [])
        learner.fit(
            learner.prepare(TRAIN, VAL),
            seed=5,
            report=lambda *step, to=steps: to.append(step),
            checkpoints=NOWHERE,
        )
    for micro in (20, 7):
        for (_, whole), (_, parts) in zip(history[50], history[micro], strict=True):
            assert parts == pytest.approx(whole, abs=1e-4)


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_half_precision_learns_as_well(fitted: FittedNetwork, precision: str) -> None:
    half = fit(precision=precision)
    assert weights(half) != weights(fitted)
    assert {each.dtype for each in half.network.parameters()} == {torch.float32}
    whole = log_loss(TEST.target, fitted.predict(TEST))
    assert log_loss(TEST.target, half.predict(TEST)) == pytest.approx(whole, abs=0.02)


def test_a_compiled_network_learns_the_same() -> None:
    plain, compiled = (fit(dropout=0, compile=each) for each in (False, True))
    assert weights(plain) != weights(compiled)
    np.testing.assert_allclose(compiled.predict(TEST), plain.predict(TEST), atol=1e-3)


def test_a_learning_rate_that_is_too_high_is_named() -> None:
    with pytest.raises(ParamsError, match=r"learning_rate: must keep the loss finite \(got nan in"):
        fit(learning_rate=1e30, gradient_clip_norm=1e30, warmup_epochs=0)


def test_a_target_of_one_class_alone_does_not_break_it() -> None:
    ones = replace(TRAIN, target=np.ones_like(TRAIN.target))
    assert fit(ones, replace(VAL, target=np.ones_like(VAL.target))).predict(TEST).min() > 0.9


@pytest.mark.skipif(devices.gpus() > 0, reason="there is one here")
def test_a_gpu_that_is_not_there_is_an_error() -> None:
    with pytest.raises(ParamsError, match=r"models.network.device: must be cpu or auto where CUDA"):
        fit(device="cuda")


def test_settings_that_are_not_allowed() -> None:
    wrong: list[dict[str, Any]] = [{"device": "gpu"}, {"batch_size": 0}, {"dropout": 1}]
    for settings in wrong:
        with pytest.raises(ValueError, match=next(iter(settings))):
            Network.model_validate(SETTINGS | settings)


def test_many_categories_of_which_most_are_rare() -> None:
    draw = np.random.default_rng(8)

    def many(rows: int) -> Dataset:
        data = examples(int(draw.integers(100)), rows)
        codes = (draw.pareto(1, (rows, 2)) * 20).astype(np.int32) % 3000 + 2
        return replace(
            data,
            categorical=np.hstack([data.categorical, codes]),
            names=(*data.names, "one", "other"),
            cardinalities=(*data.cardinalities, 3002, 3002),
        )

    train, val, test = (many(600) for _ in range(3))
    scores = fit(train, val).predict(test)
    assert log_loss(test.target, scores) < 0.85 * log_loss(test.target, test.target * 0 + 0.5)
