"""How the next trial is drawn, and when one is given up."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
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

Space = dict[str, BaseDistribution]
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


def drawn(
    study: Study, sampler: BaseSampler, known: Sequence[FrozenTrial], space: Space
) -> FrozenTrial:
    """Have a sampler draft a trial of a study after those that are known."""
    desk = Desk(known)
    drafting = optuna.create_study(
        storage=desk,
        sampler=sampler,
        pruner=study.pruner,
        study_name=study.study_name,
        direction=study.direction,
    )
    return desk.get_trial(drafting.ask(space)._trial_id)  # noqa: SLF001 - so a storage knows it


class Desk(optuna.storages.InMemoryStorage):
    """Where a trial is drafted in view of those that are known: the draft is none of them.

    A database would take each of its parameters in a transaction of its own.
    """

    def __init__(self, known: Sequence[FrozenTrial]) -> None:
        super().__init__()
        self._known = known

    def get_trial(self, trial_id: int) -> FrozenTrial:
        """Give the draft, by the number that comes after the known ones."""
        draft = copy.copy(super().get_trial(trial_id))
        draft.number = len(self._known)
        return draft

    def get_all_trials(self, *_: object, **asked: Any) -> list[FrozenTrial]:
        """Give the known trials, in the states that are asked for."""
        states = asked.get("states") or TrialState
        return [each for each in self._known if each.state in states]


class Grid(optuna.samplers.GridSampler):
    """Optuna's, which knows the values that were tried by their place in an order: always one."""

    def has_tried_all(self, known: Sequence[FrozenTrial]) -> bool:
        """Tell whether all values are tried, or being tried."""
        begun = {each.system_attrs.get("grid_id") for each in known}
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

    def reseed_rng(self) -> None:
        """Do as the other one does."""
        self._sampler.reseed_rng()


def _rounded(value: Any, distribution: BaseDistribution) -> Any:
    if not isinstance(distribution, optuna.distributions.FloatDistribution):
        return value
    rounded = as_listed(value) if distribution.step else float(f"{value:.{DIGITS}g}")
    return min(max(rounded, distribution.low), distribution.high)
