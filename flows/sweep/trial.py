"""Compute one trial, in whatever process: what all trials of a process share is prepared once."""

from __future__ import annotations

import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.exceptions import UpdateFinishedTrialError

from flows.sweep.choosing import PrunerName, pruner
from flows.sweep.storage import connect
from tasks import metrics, seeds, train, trials
from tasks.encoder import Dataset
from tasks.errors import Interrupted
from tasks.metrics import Metric
from tasks.models import Learner, Models
from tasks.trials import Outcome, Verdict, rungs

PARTS = ("train", "val")
"""All that a sweep reads: the test part stays closed."""


@dataclass(frozen=True)
class Conditions:
    """What all trials of a sweep have in common.

    study, storage   where they are judged
    settings         the learner's section of params.yaml, of which a trial changes some
    steps            the most that any trial takes
    pruner           its name, see `flows.sweep.choosing.pruner`
    threshold, bins  see `tasks.metrics.by_name`
    """

    study: str
    storage: str = field(repr=False)  # with a password, perhaps
    model: str
    settings: dict[str, Any]
    steps: int
    metric: str
    pruner: PrunerName
    seed: int
    threshold: float
    bins: int

    def learner(self, changed: dict[str, Any]) -> Learner:
        """Give the learner with some settings changed; it trains in one process."""
        section = cast(Any, Models.model_fields[self.model].annotation)
        alone = {"processes": 1} if "processes" in section.model_fields else {}
        return cast(Learner, section.model_validate({**self.settings, **changed, **alone}))

    def open_study(self) -> optuna.study.Study:
        """Open the study to report to it; who draws the parameters is the driver."""
        return optuna.load_study(
            study_name=self.study,
            storage=connect(self.storage),
            sampler=optuna.samplers.RandomSampler(),
            pruner=pruner(self.pruner, self.steps),
        )

    def measures(self) -> dict[str, Metric]:
        """Give all metrics by name."""
        return metrics.by_name(threshold=self.threshold, bins=self.bins)


@dataclass(frozen=True)
class Order:
    """One trial: the settings it changes, and its number in the storage if it is to be judged."""

    settings: dict[str, Any]
    trial_id: int | None


def read(featurize_folder: Path) -> tuple[Dataset, Dataset]:
    """Read the training and the validation part."""
    known, unknown = (train.encoded(featurize_folder, part) for part in PARTS)
    return known, unknown


def validation_target(featurize_folder: Path) -> NDArray[np.int64]:
    """Give what happened to each validation row, 0 or 1."""
    target = train.encoded(featurize_folder, PARTS[1]).target
    if target is None:
        raise ValueError("validation rows must have a target")
    return target.astype(np.int64)


class Bench:
    """Where a process computes its trials: the data prepared for the learner, the study open."""

    def __init__(self, conditions: Conditions, data: tuple[Dataset, Dataset]) -> None:
        self._conditions = conditions
        self._parts = conditions.learner({}).prepare(*data)
        self._seed = seeds.derive(conditions.seed, "train")  # what the stage trains with
        self._study: optuna.study.Study | None = None

    def compute(self, order: Order, stopping: Callable[[], bool]) -> Outcome:
        """Train, and let the study's pruner judge at times; alone, if no trial is named.

        Raises what the learner raises, Interrupted if `stopping` becomes true.
        """
        return trials.run(
            self._conditions.learner(order.settings),
            self._parts,
            seed=self._seed,
            metric=self._conditions.metric,
            measures=self._conditions.measures(),
            judged=rungs(self._conditions.steps),
            gives_up=self._verdict(order.trial_id),
            stopping=stopping,
        )

    def _verdict(self, trial_id: int | None) -> Verdict:
        if trial_id is None or self._conditions.pruner == "none":
            return _never
        self._study = self._study or self._conditions.open_study()
        trial = optuna.trial.Trial(self._study, trial_id)

        def verdict(step: int, value: float) -> bool:
            try:
                trial.report(value, step)
                return trial.should_prune()
            except UpdateFinishedTrialError:
                why = "sweep: a trial was given up by who ordered it"
                raise Interrupted(why, signal.SIGINT) from None

        return verdict


def _never(_step: int, _value: float) -> bool:
    return False
