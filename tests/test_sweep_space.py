"""What Optuna draws from, how it draws, and when it gives a trial up."""

from typing import Any

import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.distributions import (
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.pruners import HyperbandPruner, MedianPruner, NopPruner
from optuna.trial import TrialState

from flows.sweep import choosing
from flows.sweep.choosing import DIGITS, pruner, sampler
from flows.sweep.section import Dimension, Range, Sweep
from flows.sweep.space import distributions, grid
from tasks.trials import rungs

optuna.logging.set_verbosity(optuna.logging.WARNING)

SETTINGS = {
    "metric": "roc_auc",
    "direction": "maximize",
    "sampler": "random",
    "pruner": "none",
    "n_trials": 10,
    "timeout_seconds": None,
    "resamples": 20,
    "engine": "local",
    "workers": 1,
    "cpus": 1,
    "gpus": 0,
    "gpu_type": None,
    "patience_seconds": 1,
    "storage": "sqlite:///sweeps.db",
    "space": {},
}
SPACE: dict[str, Dimension] = {
    "rate": Range[float, float](low=1e-4, high=0.3, log=True),
    "share": Range[float, float](low=0.2, high=1.0),
    "depth": Range[int, int](low=1, high=8),
    "weight": Range[int, int](low=1, high=200, log=True),
    "kind": ["none", "balanced"],
    "width": [32, 64.123456],
}
NUMBERS = {name: SPACE[name] for name in ("rate", "share", "depth")}
LISTED: dict[str, Dimension] = {
    "share": Range[float, float](low=0.1, high=0.3, step=0.1),
    "depth": Range[int, int](low=1, high=5, step=2),
    "kind": ["none", "balanced"],
}


def drawn(
    kind: str, space: dict[str, Dimension], *, trials: int = 40, seed: int = 1
) -> list[dict[str, Any]]:
    """Draw the parameters of trials that are the better the greater their numbers are."""
    chosen = sampler(Sweep.model_validate(SETTINGS | {"sampler": kind}), space, seed=seed)
    study = optuna.create_study(direction="maximize")
    for _ in range(trials):
        trial = choosing.drawn(study, chosen, study.trials, distributions(space))
        values = [value for value in trial.params.values() if isinstance(value, int | float)]
        trial.state, trial.value = TrialState.COMPLETE, float(sum(values))
        trial.datetime_complete = trial.datetime_start
        study.add_trial(trial)
    return [trial.params for trial in study.trials]


def is_readable(value: float) -> bool:
    return float(f"{value:.{DIGITS}g}") == value


def test_a_space_is_told_in_optunas_words_in_the_order_of_names():
    found = distributions(SPACE | LISTED)
    assert list(found) == sorted(SPACE)
    assert found == {
        "depth": IntDistribution(1, 5, step=2),
        "kind": CategoricalDistribution(["none", "balanced"]),
        "rate": FloatDistribution(1e-4, 0.3, log=True),
        "share": FloatDistribution(0.1, 0.3, step=0.1),
        "weight": IntDistribution(1, 200, log=True),
        "width": CategoricalDistribution([32, 64.123456]),
    }


@pytest.mark.parametrize("kind", ["random", "tpe"])
def test_numbers_are_fit_to_be_read_and_lie_in_their_ranges(kind: str):
    for params in drawn(kind, SPACE):
        assert params.keys() == SPACE.keys()
        assert is_readable(params["rate"])
        assert is_readable(params["share"])
        assert 1e-4 <= params["rate"] <= 0.3
        assert 0.2 <= params["share"] <= 1.0
        assert params["depth"] in range(1, 9)
        assert params["weight"] in range(1, 201)
        assert params["kind"] in SPACE["kind"]
        assert params["width"] in SPACE["width"], "a choice is what it is"


def test_numbers_that_are_drawn_together_are_fit_to_be_read_too():
    for params in drawn("cmaes", NUMBERS):
        assert is_readable(params["rate"])
        assert is_readable(params["share"])
        assert 1e-4 <= params["rate"] <= 0.3
        assert 0.2 <= params["share"] <= 1.0
        assert params["depth"] in range(1, 9)


@pytest.mark.parametrize("log", [False, True])
@given(low=st.floats(1e-6, 1e6), factor=st.floats(1e-9, 1), seed=st.integers(0, 1000))
def test_bounds_that_round_outside_of_the_range_stay_bounds(
    *, log: bool, low: float, factor: float, seed: int
):
    high = low * (1 + factor)
    space: dict[str, Dimension] = {"x": Range[float, float](low=low, high=high, log=log)}
    for params in drawn("random", space, trials=3, seed=seed):
        assert low <= params["x"] <= high
        assert is_readable(params["x"]) or params["x"] in (low, high)


@pytest.mark.parametrize("kind", ["random", "tpe"])
def test_numbers_with_a_step_are_those_that_are_listed(kind: str):
    space: dict[str, Dimension] = {"x": Range[float, float](low=0.1, high=0.9, step=0.1)}
    listed = grid(space)["x"]
    assert listed == [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]
    assert {params["x"] for params in drawn(kind, space)} <= set(listed)


@pytest.mark.parametrize("kind", ["random", "tpe", "cmaes", "grid"])
def test_the_same_seed_draws_the_same(kind: str):
    space, trials = (LISTED, 17) if kind == "grid" else (NUMBERS, 20)
    assert drawn(kind, space, trials=trials) == drawn(kind, space, trials=trials)


@pytest.mark.parametrize("kind", ["random", "tpe", "cmaes"])
def test_another_seed_draws_something_else(kind: str):
    assert drawn(kind, NUMBERS, seed=1) != drawn(kind, NUMBERS, seed=2)


def test_tpe_comes_closer_to_what_was_good():
    after = [params["share"] for params in drawn("tpe", {"share": SPACE["share"]})][20:]
    assert sum(after) / len(after) > 0.75, "the mean of the range is 0.6"


def test_a_grid_tries_everything_once():
    found = drawn("grid", LISTED, trials=18)
    assert {tuple(sorted(params.items())) for params in found} == {
        (("depth", depth), ("kind", kind), ("share", share))
        for depth in (1, 3, 5)
        for kind in ("none", "balanced")
        for share in (0.1, 0.2, 0.3)
    }


def test_a_grid_is_in_the_same_order_whatever_the_seed():
    """It goes on with another one, and knows what was tried by its place in the order."""
    first, second = (drawn("grid", LISTED, trials=17, seed=seed) for seed in (1, 2))
    assert first == second


def test_a_pruner_asks_where_a_trial_is_judged():
    for steps in (1, 8, 16, 17, 100, 1000):
        hyperband = pruner("hyperband", steps)
        assert isinstance(hyperband, HyperbandPruner)
        assert hyperband._min_resource == rungs(steps)[0]
        assert hyperband._max_resource == rungs(steps)[-1]


def test_the_median_gives_up_what_is_worse_than_most():
    study = optuna.create_study(direction="maximize", pruner=pruner("median", 4))
    given_up = []
    for quality in (5, 5, 5, 5, 5, 9, 1):
        trial = study.ask()
        trial.report(quality, 1)
        given_up.append(trial.should_prune())
        study.tell(trial, quality)
    assert given_up == [False] * 6 + [True]
    assert isinstance(study.pruner, MedianPruner)


@pytest.mark.parametrize("steps", [4, 1000])
def test_hyperband_gives_up_the_worse_part_of_what_it_judges(steps: int):
    study = optuna.create_study(direction="maximize", pruner=pruner("hyperband", steps))
    given_up = 0
    for number in range(30):
        trial = study.ask()
        for step in rungs(steps):
            trial.report(number % 7, step)
            if trial.should_prune():
                given_up += 1
                break
        study.tell(trial, number % 7)
    assert 0 < given_up < 30


def test_without_a_pruner_all_trials_go_to_the_end():
    assert isinstance(pruner("none", 10), NopPruner)
