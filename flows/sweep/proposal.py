"""What a sweep proposes: other parameters, what they gain on the validation part, and how sure.

The best of many trials looks better than it is, since the rows that tell how good it is are those
it was chosen by. So the gain is told twice: of the winner as it stands, and of choosing a winner,
measured on rows that had no part in the choice.
"""

from __future__ import annotations

import difflib
import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from optuna.trial import FrozenTrial, TrialState

from flows import preflight
from flows.sweep.driver import compute
from flows.sweep.engines import Engine
from flows.sweep.plan import Plan
from flows.sweep.scores import Scores
from flows.sweep.study import Search, named
from flows.sweep.trial import validation_target
from tasks import metrics, params, seeds, selection
from tasks.errors import StageError
from tasks.trials import Outcome

Floats = NDArray[np.float64]

SURE = 0.95
"""From which probability on an improvement is called sure."""


@dataclass(frozen=True)
class Proposal:
    """The winner of a sweep against the current parameters.

    best      the winner
    value     of the current parameters, by the same training
    gain      of the winner over them, with its interval, as if it had not been chosen
    chosen    of choosing the best of all trials, on rows that were not chosen by
    changes   key of params.yaml -> its value there, and in the winner
    diff      of params.yaml, as text
    """

    best: FrozenTrial
    value: float
    gain: Mapping[str, float]
    chosen: Mapping[str, float]
    changes: Mapping[str, tuple[Any, Any]]
    diff: str

    @property
    def is_better(self) -> bool:
        """Whether there is something to apply."""
        return bool(self.changes) and self.gain["value"] > 0

    @property
    def settings(self) -> list[str]:
        """The changes as `--set` takes them."""
        return _settings(self.changes)

    @property
    def verdict(self) -> str:
        """Whether to believe it, in words."""
        if not self.changes:
            return "the current parameters are the best that was found"
        if not self.is_better:
            return "no improvement: the current parameters are as good"
        if self.chosen["low"] > 0:
            return "an improvement, also on rows that the winner was not chosen by"
        return "within noise: on rows that the winner was not chosen by, it may be none"


def propose(
    plan: Plan, search: Search, scores: Scores, engine: Engine, *, featurize_folder: Path
) -> Proposal:
    """Compare the best trial with the current parameters.

    Raises StageError if no trial has completed.
    """
    complete = search.trials(TrialState.COMPLETE)
    if not complete:
        raise StageError(_why_none(search))
    best = search.best(complete)
    known = {each.number: _scores_of(each, scores, engine) for each in complete}
    same = [each for each in complete if each.params == plan.current]
    if same:
        value, current = float(same[0].value or 0.0), known[same[0].number]
    else:
        outcome = compute(engine, "current", dict(plan.current))
        value, current = outcome.metrics[plan.sweep.metric], _whole(outcome)
    target = validation_target(featurize_folder)
    drawn: dict[str, Any] = {
        "quality": plan.quality,
        "resamples": plan.sweep.resamples,
        "seed": seeds.derive(plan.conditions.seed, "improvement"),
    }
    changes = _changes(plan, best)
    return Proposal(
        best=best,
        value=value,
        gain=metrics.paired_gain(target, known[best.number], current, **drawn),
        chosen=selection.improvement(target, list(known.values()), current, **drawn),
        changes=changes,
        diff=difference(_settings(changes)),
    )


def _scores_of(trial: FrozenTrial, scores: Scores, engine: Engine) -> Floats:
    """Give what a trial says of the validation rows, trained anew where that is not known here."""
    known = scores.of(trial.number, trial.params)
    return _whole(compute(engine, named(trial.number), trial.params)) if known is None else known


def _whole(outcome: Outcome) -> Floats:
    if outcome.scores is None:
        raise ValueError("what no judge has seen cannot have been pruned")
    return outcome.scores.astype(np.float64)


def _changes(plan: Plan, best: FrozenTrial) -> dict[str, tuple[Any, Any]]:
    return {
        f"models.{plan.model}.{name}": (plan.current[name], after)
        for name, after in best.params.items()
        if after != plan.current[name]
    }


def _settings(changes: Mapping[str, tuple[Any, Any]]) -> list[str]:
    return [f"{key}={json.dumps(after)}" for key, (_, after) in changes.items()]


def _why_none(search: Search) -> str:
    failed = [each.user_attrs.get("reason", "") for each in search.trials(TrialState.FAIL)]
    last = f", the last because {failed[-1]}" if failed else ""
    return (
        f"sweep: at least one trial must complete (got none of {len(search.trials())}{last})\n"
        "next: correct sweep.space or the learner's section of params.yaml, or raise sweep.n_trials"
    )


def difference(settings: list[str], path: Path = params.FILE) -> str:
    """Show what settings would change in a params file, as a unified diff."""
    before = path.read_text(encoding="utf-8")
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / path.name
        copy.write_text(before, encoding="utf-8")
        preflight.override(settings, copy)
        after = copy.read_text(encoding="utf-8")
    lines = difflib.unified_diff(
        before.splitlines(), after.splitlines(), f"a/{path}", f"b/{path}", lineterm="", n=1
    )
    return "\n".join(lines)
