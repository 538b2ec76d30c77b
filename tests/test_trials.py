"""One trial of a search, on the examples that the learner `trees` is tested on."""

import re
import signal
from collections.abc import Callable, Collection, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from test_trees import QUIET, SETTINGS, TRAIN, VAL

from tasks import metrics, trials
from tasks.errors import Interrupted, ParamsError
from tasks.models.trees import Trees
from tasks.trials import LONGEST_CURVE, Outcome, Verdict

LONG = {"learning_rate": 0.02, "max_rounds": 300, "early_stopping_rounds": 300}


def measure(tally: metrics.Tally) -> dict[str, float]:
    return metrics.measures(tally, threshold=0.5, bins=10)


def never(_step: int, _value: float) -> bool:
    return False


def run(
    *,
    gives_up: Verdict = never,
    stopping: Callable[[], bool] = lambda: False,
    metric: str = "roc_auc",
    judged: Collection[int] | None = None,
    **settings: Any,
) -> Outcome:
    learner = Trees.model_validate(SETTINGS | settings)
    return trials.run(
        learner,
        learner.prepare(TRAIN, VAL),
        seed=5,
        metric=metric,
        measures=metrics.by_name(threshold=0.5, bins=10),
        judged=trials.rungs(learner.steps) if judged is None else judged,
        gives_up=gives_up,
        stopping=stopping,
    )


@pytest.fixture(scope="module")
def long() -> Outcome:
    return run(**LONG)


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        (1, (1,)),
        (8, (1, 2, 3, 4, 5, 6, 7, 8)),
        (16, tuple(range(1, 17))),
        (17, (1, 2, 4, 8, 16)),
        (64, (1, 2, 4, 8, 16, 32, 64)),
        (200, (3, 6, 12, 24, 48, 96, 192)),
        (1000, (15, 30, 60, 120, 240, 480, 960)),
    ],
)
def test_few_steps_are_all_judged_and_of_many_each_rung_lies_twice_as_far(
    steps: int, expected: tuple[int, ...]
) -> None:
    assert trials.rungs(steps) == expected


def test_a_trial_is_judged_at_its_rungs_by_what_it_would_come_to() -> None:
    judged: list[tuple[int, float]] = []

    def gives_up(step: int, value: float) -> bool:
        judged.append((step, value))
        return False

    run(gives_up=gives_up, **LONG)
    assert [step for step, _ in judged] == list(trials.rungs(300))
    learner = Trees.model_validate(SETTINGS | LONG)
    for step, value in judged:
        cut_short = learner.model_copy(update={"max_rounds": step})
        fitted = cut_short.fit(learner.prepare(TRAIN, VAL), seed=5, **QUIET)
        if fitted.steps == step:  # so that the last step was the best
            tally = metrics.tally(VAL.target, fitted.predict(VAL))
            assert measure(tally)["roc_auc"] == value


def test_a_trial_is_judged_by_the_metric_that_is_searched_for() -> None:
    judged: dict[int, float] = {}

    def gives_up(step: int, value: float) -> bool:
        judged[step] = value
        return False

    outcome = run(gives_up=gives_up, metric="log_loss", max_rounds=8)
    losses = {point["step"]: point["val_log_loss"] for point in outcome.curve}
    assert judged == {step: losses[step] for step in range(1, 8)}, "not the learner's, rounded"


def test_at_its_last_step_a_trial_is_not_given_up() -> None:
    assert run(gives_up=lambda step, _: step == 8, judged=(8,), max_rounds=9).pruned
    assert not run(gives_up=lambda step, _: step == 8, judged=(8,), max_rounds=8).pruned


def test_a_complete_trial_is_measured_as_its_model_is() -> None:
    outcome = run()
    learner = Trees.model_validate(SETTINGS)
    fitted = learner.fit(learner.prepare(TRAIN, VAL), seed=5, **QUIET)
    scores = fitted.predict(VAL)
    assert not outcome.pruned
    assert outcome.steps == fitted.steps
    assert outcome.metrics == measure(metrics.tally(VAL.target, scores))
    assert outcome.scores is not None
    assert outcome.scores.dtype == np.float32
    assert np.array_equal(outcome.scores, scores), "they are whole as float32"


def test_the_judge_changes_nothing_of_what_goes_to_the_end(long: Outcome) -> None:
    learner = Trees.model_validate(SETTINGS | LONG)
    fitted = learner.fit(learner.prepare(TRAIN, VAL), seed=5, **QUIET)
    assert np.array_equal(long.scores, fitted.predict(VAL))


def test_a_curve_keeps_a_few_points_and_all_that_were_judged(long: Outcome) -> None:
    steps = [point["step"] for point in long.curve]
    assert steps == sorted(set(steps))
    assert (steps[0], steps[-1]) == (1, 300)
    rungs = trials.rungs(300)
    assert [point["step"] for point in long.curve if "val_roc_auc" in point] == list(rungs)
    assert LONGEST_CURVE <= len(steps) <= LONGEST_CURVE + len(rungs)
    assert max(np.diff(steps)) <= 2 * 300 / LONGEST_CURVE
    names = {name for point in long.curve for name in point}
    assert names == {"step", "train_log_loss", "val_log_loss", "val_roc_auc"}


def test_a_short_curve_is_whole() -> None:
    outcome = run(max_rounds=8)
    assert [point["step"] for point in outcome.curve] == list(range(1, 9))


@pytest.mark.parametrize("step", [3, 48, 192])
def test_a_trial_that_promises_nothing_is_given_up(step: int) -> None:
    settings = LONG | {"max_rounds": 200}
    outcome = run(gives_up=lambda reached, _: reached == step, **settings)
    assert outcome.pruned
    assert (outcome.steps, outcome.scores, outcome.metrics) == (step, None, {})
    assert (outcome.curve[0]["step"], outcome.curve[-1]["step"]) == (1, step)
    judged = [point["step"] for point in outcome.curve if "val_roc_auc" in point]
    assert judged == [rung for rung in trials.rungs(200) if rung <= step]


def test_words_tell_what_a_trial_came_to_or_what_was_judged_last(long: Outcome) -> None:
    seconds = r"in \d+\.\d s"
    value = f"{long.metrics['pr_auc']:.5f}"
    assert re.fullmatch(rf"pr_auc={value} after {long.steps} steps {seconds}", long.words("pr_auc"))
    pruned = run(gives_up=lambda step, _: step == 6, **LONG | {"max_rounds": 200})
    (last,) = (point["val_roc_auc"] for point in pruned.curve if point["step"] == 6)
    assert re.fullmatch(rf"roc_auc={last:.5f} after 6 steps {seconds}", pruned.words("roc_auc"))


def test_a_trial_that_is_asked_to_stop_stops_at_the_next_step() -> None:
    asked: Iterator[bool] = iter([False, False, True])
    with pytest.raises(Interrupted, match="asked to stop at step 3") as caught:
        run(stopping=lambda: next(asked))
    assert caught.value.signal == signal.SIGINT


def test_what_the_learner_refuses_is_raised() -> None:
    with pytest.raises(ParamsError, match="min_child_weight: must let trees split"):
        run(min_child_weight=500)


def test_validation_rows_without_a_target_are_refused() -> None:
    learner = Trees.model_validate(SETTINGS)
    parts = replace(learner.prepare(TRAIN, VAL), val=replace(VAL, target=None))
    with pytest.raises(ValueError, match="validation rows must have a target"):
        trials.run(
            learner,
            parts,
            seed=5,
            metric="roc_auc",
            measures={},
            judged=(),
            gives_up=never,
            stopping=lambda: False,
        )
