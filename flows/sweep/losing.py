"""Trials that are lost: their worker, their driver or their sweep ended, and nobody tells them.

Who drives a trial stands in its attributes, so that a trial of a dead driver can be told from one
that is at work elsewhere.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import optuna
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial, TrialState

from flows.sweep.storage import connect, finish
from tasks import tracking

DRIVER = "driver"
"""Attribute of a trial: which process drives it, and when it last said so."""

KILLED = "the process that drove it was killed"


def lose(
    study: Study,
    trial: Trial | FrozenTrial,
    reason: str,
    *,
    kind: Literal["deaths", "kills"] | None = None,
) -> FrozenTrial:
    """Take that a trial has ended by no fault that is known, unless it was told before.

    kind  whether its worker or its driver died, which may be its fault after all
    """
    attrs: dict[str, Any] = {"reason": reason, "lost": True}
    if kind is not None:
        attrs[kind] = trial.user_attrs.get(kind, 0) + 1
    finish(study._storage, trial, TrialState.FAIL, attrs=attrs)  # noqa: SLF001
    return study._storage.get_trial(trial._trial_id)  # noqa: SLF001


def lose_left(url: str) -> list[tuple[str, int]]:
    """Lose the trials of dead drivers in all studies of a storage; give study and number of each.

    The next command of their sweep tries them again. A storage in a file that is not there is not
    made.
    """
    kind, _, path = url.partition(":///")
    if kind == "sqlite" and not Path(path).exists():
        return []
    storage, lost = connect(url), []
    for name in optuna.get_all_study_names(storage):
        study = optuna.load_study(study_name=name, storage=storage)
        for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            if is_left(trial):
                lose(study, trial, KILLED, kind="kills")
                lost.append((name, trial.number))
    return lost


def is_left(trial: FrozenTrial) -> bool:
    """Tell whether the driver of a running trial is gone; one that has none was made by others."""
    driver = trial.user_attrs.get(DRIVER)
    return driver is None or tracking.is_gone(**driver)
