"""How the next trial is drawn, and when one is given up."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from flows.sweep.section import Dimension, Sweep, as_listed
from flows.sweep.space import grid
from tasks.trials import rungs

DIGITS = 4
"""Significant digits of a searched number: more only make params.yaml hard to read."""

STARTUP_TRIALS = 5
"""Trials that end unpruned, to have something to compare with."""

PrunerName = Literal["median", "hyperband", "none"]


def pruner(kind: PrunerName, steps: int) -> optuna.pruners.BasePruner:
    """Make the pruner of learners that take `steps` steps at most."""
    asked = rungs(steps)
    if kind == "median":
        return optuna.pruners.MedianPruner(n_startup_trials=STARTUP_TRIALS)
    if kind == "hyperband":
        return optuna.pruners.HyperbandPruner(min_resource=asked[0], max_resource=asked[-1])
    return optuna.pruners.NopPruner()


def sampler(sweep: Sweep, space: Mapping[str, Dimension], *, seed: int) -> BaseSampler:
    """Make the sampler, whose numbers are fit to be read."""
    if sweep.sampler == "tpe":
        return Rounded(optuna.samplers.TPESampler(seed=seed))
    if sweep.sampler == "cmaes":
        return Rounded(optuna.samplers.CmaEsSampler(seed=seed))
    if sweep.sampler == "grid":
        return Grid(grid(space))
    return Rounded(optuna.samplers.RandomSampler(seed=seed))


class Grid(optuna.samplers.GridSampler):
    """Optuna's, for trials that are asked for, and told by whoever has computed them.

    It knows the values that were tried by their place in an order, so the order is always the same.
    """

    def after_trial(self, *_: object) -> None:
        """Leave it to who asks to see that nothing is left: there is no loop to be ended."""

    def point(self, trial: FrozenTrial) -> dict[str, Any]:
        """Give the values that a trial was to try, even if it was killed before they were drawn."""
        place = trial.system_attrs.get("grid_id")
        if place is None:
            return {}
        return dict(zip(self._param_names, self._all_grids[place], strict=True))

    def is_exhausted(self, study: Study) -> bool:
        """Tell whether all values are tried, or being tried."""
        begun = {each.system_attrs.get("grid_id") for each in study.get_trials(deepcopy=False)}
        return begun.issuperset(range(self._n_min_trials))


class Rounded(BaseSampler):
    """Another sampler, whose numbers have a few significant digits: the trial's true parameters."""

    def __init__(self, sampler: BaseSampler) -> None:
        self._sampler = sampler

    def infer_relative_search_space(
        self, study: Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """Do as the other one does."""
        return self._sampler.infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Round what the other one draws together."""
        drawn = self._sampler.sample_relative(study, trial, search_space)
        return {name: _rounded(value, search_space[name]) for name, value in drawn.items()}

    def sample_independent(
        self,
        study: Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """Round what the other one draws alone."""
        drawn = self._sampler.sample_independent(study, trial, param_name, param_distribution)
        return _rounded(drawn, param_distribution)

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        """Do as the other one does."""
        self._sampler.before_trial(study, trial)

    def after_trial(self, study: Study, trial: FrozenTrial, state: TrialState, values: Any) -> None:
        """Do as the other one does."""
        self._sampler.after_trial(study, trial, state, values)

    def reseed_rng(self) -> None:
        """Do as the other one does."""
        self._sampler.reseed_rng()


def _rounded(value: Any, distribution: BaseDistribution) -> Any:
    if not isinstance(distribution, optuna.distributions.FloatDistribution):
        return value
    rounded = as_listed(value) if distribution.step else float(f"{value:.{DIGITS}g}")
    return min(max(rounded, distribution.low), distribution.high)
