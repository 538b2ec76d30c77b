"""Say in MLflow's words what Optuna knows of a sweep and its trials."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from optuna.trial import FrozenTrial

from flows.sweep.study import OUTCOME, WORDS, named
from tasks.open_run import HISTORY
from tasks.sweep_run import TrialRecord

SHOWN = ("current", "reason", "lost", "deaths", "retry_of")
"""Attributes of a trial that become tags of its run."""


def parameters(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Give what a sweep is recorded with: how it searches, where, and what stays as it is."""
    learner = f"models.{facts['model']}"
    return {
        "model": facts["model"],
        **dict(flat({"sweep": facts["sweep"]})),
        **{f"{learner}.{name}": value for name, value in facts["fixed"].items()},
    }


def record(trial: FrozenTrial, facts: Mapping[str, Any]) -> TrialRecord:
    """Say in MLflow's words what became of a trial."""
    attrs = trial.user_attrs
    outcome = attrs.get(OUTCOME, {})
    curve = [
        (f"{HISTORY}{name}", float(value), int(point["step"]))
        for point in outcome.get("curve", [])
        for name, value in point.items()
        if name != "step"
    ]
    measured = [(f"val/{name}", value, 0) for name, value in outcome.get("metrics", {}).items()]
    costs = [(name, float(outcome[name]), 0) for name in ("seconds", "steps") if name in outcome]
    value = [] if trial.value is None else [("value", trial.value, 0)]  # if pruned, the last judged
    started, ended = (int(each.timestamp() * 1000) if each else 0 for each in _times(trial))
    learner = f"models.{facts['model']}"
    return TrialRecord(
        number=trial.number,
        name=named(trial.number),
        state=WORDS[trial.state],
        params={f"{learner}.{name}": value for name, value in trial.params.items()},
        points=[
            *curve,
            *measured,
            *costs,
            *value,
            ("duration_seconds", (ended - started) / 1000, 0),
        ],
        started=started,
        ended=ended,
        tags={name: str(attrs[name]) for name in SHOWN if name in attrs},
    )


def _times(trial: FrozenTrial) -> tuple[datetime | None, datetime | None]:
    return trial.datetime_start or trial.datetime_complete, trial.datetime_complete


def flat(nested: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Give the values of nested mappings by dotted keys, without those that are None."""
    for name, value in nested.items():
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{name}.")
        elif value is not None:
            yield f"{prefix}{name}", value
