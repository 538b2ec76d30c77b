"""Draw how the trials of a study went; only what they can tell is drawn."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.study import StudyDirection
from optuna.trial import TrialState

from tasks import search_figures
from tasks.search_figures import Axis, Point


def draw(study: optuna.Study, folder: Path, *, metric: str) -> None:
    """Write `history.png`, `parallel_coordinates.png` and `importance.png`.

    None without a complete trial; the last only if their values differ.
    """
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    if not complete:
        return
    values = np.array([each.value for each in complete], np.float64)
    maximize = study.direction == StudyDirection.MAXIMIZE
    told: dict[str, Any] = {"metric": metric, "maximize": maximize}
    search_figures.history(folder / "history.png", list(_points(study)), **told)
    search_figures.parallel_coordinates(
        folder / "parallel_coordinates.png",
        [_axis(name, each) for name, each in complete[0].distributions.items()],
        [each.params for each in complete],
        values,
        **told,
    )
    if len(set(values)) > 1:
        shares = optuna.importance.get_param_importances(study)
        search_figures.importance(folder / "importance.png", shares, metric=metric)


def _points(study: optuna.Study) -> Iterator[Point]:
    for trial in study.get_trials(deepcopy=False):
        if trial.value is not None:  # of a pruned one, what was judged last
            yield Point(trial.number, trial.value, trial.state == TrialState.COMPLETE)


def _axis(name: str, distribution: BaseDistribution) -> Axis:
    if isinstance(distribution, CategoricalDistribution):
        return Axis(name, distribution.choices, is_range=False)
    if isinstance(distribution, FloatDistribution | IntDistribution):
        ends = (distribution.low, distribution.high)
        return Axis(name, ends, is_range=True, log=distribution.log)
    raise TypeError(f"{type(distribution).__name__} is no distribution that is searched in")
