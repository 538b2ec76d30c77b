"""The trials of a sweep in Optuna's storage: what is done, what is missing, what is tried again.

A trial is *lost* if its worker died, its driver died or the sweep was interrupted: nobody's fault,
so its parameters are tried again, as a trial that names the lost one. One whose worker dies
again, or whose driver does again and again, is given up. Who drives a trial stands in its
attributes, so that a driver can tell the trials of a dead one from those of one at work elsewhere.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from itertools import count
from typing import Any, Literal
from uuid import uuid4

import optuna
from optuna.trial import FrozenTrial, TrialState, create_trial

from flows.sweep import losing
from flows.sweep.choosing import Grid, drawn, pruner, sampler
from flows.sweep.losing import DRIVER, KILLED
from flows.sweep.plan import Plan
from flows.sweep.space import contains, distributions
from flows.sweep.storage import connect, finish
from tasks import seeds, tracking
from tasks.trials import Outcome

MOST_DEATHS, MOST_KILLS = 1, 3
"""How many workers, and how many drivers, may die of a trial before it is given up."""

OUTCOME = "outcome"
"""Attribute of a trial: what it came to."""

SECONDS_BETWEEN_SIGNS = 30.0

WORDS = {TrialState.COMPLETE: "complete", TrialState.PRUNED: "pruned", TrialState.FAIL: "failed"}
"""How a trial can have ended, in words."""

KEPT = ("current", "deaths", "kills")
"""Attributes that a trial passes on to the one that takes its place."""

_given: dict[tuple[str, str], set[int]] = {}
"""By storage and study the trials that this process was given, whatever bore its name before."""


class Search:
    """A study, as the process sees it that drives its trials.

    study    Optuna's
    process  this one, as other drivers of the study know it
    """

    def __init__(self, plan: Plan) -> None:
        self._plan, self._distributions = plan, distributions(plan.space)
        conditions, sweep = plan.conditions, plan.sweep
        self._storage = connect(conditions.storage)
        self.study = optuna.create_study(
            study_name=conditions.study,
            storage=self._storage,
            direction=sweep.direction,
            pruner=pruner(sweep.pruner, conditions.steps),
            load_if_exists=True,
        )
        self._study_id = self._storage.get_study_id_from_name(conditions.study)
        self.process = tracking.recorder()[tracking.RECORDER]
        self._seen_at = time.monotonic()
        self._given = _given.setdefault((conditions.storage, conditions.study), set())

    def trials(self, *states: TrialState) -> list[FrozenTrial]:
        """Give the trials in these states, or all that were ever begun."""
        return self.study.get_trials(deepcopy=False, states=states or (TrialState.RUNNING, *WORDS))

    def greeting(self) -> str:
        """Say what is there, and what is missing."""
        done, most = len(self.done()), self._plan.sweep.n_trials
        if not done:
            return f"{self._plan.name}: {most} trials"
        return f"{self._plan.name}: {done} of {most} trials were there before"

    def done(self) -> list[FrozenTrial]:
        """Give the trials that have finished, without those that another one repeats."""
        return [each for each in self.trials(*WORDS) if not is_retried(each)]

    def best(self, complete: list[FrozenTrial]) -> FrozenTrial:
        """Give the best of some trials, of equal ones the first."""
        pick = max if self._plan.is_larger_better else min
        return pick(complete, key=lambda each: each.value or 0.0)

    def begin(self) -> None:
        """Say what is searched, and lose the trials of dead drivers."""
        plan = self._plan
        known = self.study.user_attrs
        facts = {
            "id": known.get("id", uuid4().hex),
            "begun": known.get("begun", time.time_ns() // 1_000_000),
            "key": plan.key,
            "model": plan.model,
            "metric": plan.sweep.metric,
            "fixed": dict(plan.fixed),
            "sweep": dict(plan.written),
            "command": plan.sweep.model_dump(mode="json", exclude={"storage", *plan.written}),
        }
        for name, value in facts.items():
            self.study.set_user_attr(name, value)
        self.reclaim()

    def reclaim(self) -> bool:
        """Lose the trials of dead drivers; tell whether there were any."""
        lost = [each for each in self.trials(TrialState.RUNNING) if self._is_left(each)]
        for trial in lost:
            self.lose(trial, KILLED, kind="kills")
        return bool(lost)

    def _is_left(self, trial: FrozenTrial) -> bool:
        """Tell whether nobody drives a running trial any more.

        In a container that was started again, the process that drove it may bear our own name.
        """
        driver = trial.user_attrs.get(DRIVER, {})
        if driver.get("process") == self.process:
            return trial.number not in self._given
        return losing.is_left(trial)

    def ask(self) -> FrozenTrial | None:
        """Give the next trial; None if no more are missing, or others compute those.

        It enters the storage whole. Drivers that ask together may each be given the last one.
        """
        draft = self._next() or (self._next() if self.reclaim() else None)
        if draft is not None:
            draft.set_user_attr(DRIVER, self._sign_of_life())
            self._enter(draft)
            self._given.add(draft.number)
        return draft

    def _enter(self, draft: FrozenTrial) -> None:
        """Put a trial into the storage, and note by which id and number."""
        trial_id = self._storage.create_new_trial(self._study_id, draft)
        id_of = partial(self._storage.get_trial_id_from_study_id_trial_number, self._study_id)
        draft.number = next(each for each in count() if id_of(each) == trial_id)
        draft._trial_id = trial_id  # noqa: SLF001 - so a storage knows it

    def _next(self) -> FrozenTrial | None:
        """Draft the trial that is missing, if one is: what was lost goes first."""
        trials, plan = self.trials(), self._plan
        again = {each.user_attrs.get("retry_of") for each in trials}
        for trial in trials:
            if is_retried(trial) and trial.number not in again:
                attrs = {name: trial.user_attrs[name] for name in KEPT if name in trial.user_attrs}
                return self._draft(trial.params, **attrs, retry_of=trial.number)
        if sum(not is_retried(each) for each in trials) >= plan.sweep.n_trials:
            return None
        if not trials and plan.sweep.sampler != "grid" and contains(plan.space, plan.current):
            return self._draft(plan.current, current=True)
        return self._drawn(trials)

    def _drawn(self, known: list[FrozenTrial]) -> FrozenTrial | None:
        """Have the sampler draft a trial; None if it has nothing left.

        With one seed for all of them, a sweep that goes on would draw again what came at first, and
        two drivers that begin together would draw the same.
        """
        seed = seeds.derive(self._plan.conditions.seed, f"sweep after {len(known)}")
        chosen = sampler(self._plan.sweep, self._plan.space, seed=seed)
        if isinstance(chosen, Grid) and chosen.has_tried_all(known):
            return None
        return drawn(self.study, chosen, known, self._distributions)

    def _draft(self, params: Mapping[str, Any], **attrs: Any) -> FrozenTrial:
        return create_trial(
            state=TrialState.RUNNING,
            params=dict(params),
            distributions=self._distributions,
            user_attrs=attrs,
        )

    def _seen(self, trial: FrozenTrial) -> FrozenTrial:
        """Look a trial up as it has become, together with all others that have changed."""
        return next(each for each in self.trials() if each.number == trial.number)

    def _sign_of_life(self) -> dict[str, Any]:
        signed = tracking.recorder()
        return {"process": signed[tracking.RECORDER], "seen": int(signed[tracking.SEEN])}

    def sign(self, running: list[FrozenTrial]) -> None:
        """Tell drivers on other machines that these trials are at work, once in a while."""
        if time.monotonic() - self._seen_at > SECONDS_BETWEEN_SIGNS:
            for trial in running:
                with suppress(optuna.exceptions.UpdateFinishedTrialError):
                    sign = self._sign_of_life()
                    self._storage.set_trial_user_attr(trial._trial_id, DRIVER, sign)  # noqa: SLF001
            self._seen_at = time.monotonic()

    def tell(self, trial: FrozenTrial, outcome: Outcome, metric: str) -> FrozenTrial:
        """Take what a trial came to."""
        names = ("steps", "curve", "metrics", "seconds")
        told = {name: getattr(outcome, name) for name in names} | {"words": outcome.words(metric)}
        state = TrialState.PRUNED if outcome.pruned else TrialState.COMPLETE
        value = outcome.value(metric)
        kept = None if math.isnan(value) else value
        finish(self._storage, trial, state, value=kept, attrs={OUTCOME: told})
        return self._seen(trial)

    def fail(self, trial: FrozenTrial, reason: str) -> FrozenTrial:
        """Take that a trial cannot be computed: its own parameters' fault."""
        finish(self._storage, trial, TrialState.FAIL, attrs={"reason": reason})
        return self._seen(trial)

    def lose(
        self,
        trial: FrozenTrial,
        reason: str,
        *,
        kind: Literal["deaths", "kills"] | None = None,
    ) -> FrozenTrial:
        """Take that a trial has ended by no fault that is known, unless it was told before.

        kind  whether its worker or its driver died, which may be its fault after all
        """
        return losing.lose(self.study, trial, reason, kind=kind)


def named(number: int) -> str:
    """Name a trial, in Prefect and in MLflow."""
    return f"trial-{number:04}"


def is_retried(trial: FrozenTrial) -> bool:
    """Tell whether a trial was lost, and another takes its place."""
    attrs = trial.user_attrs
    is_spared = attrs.get("deaths", 0) <= MOST_DEATHS and attrs.get("kills", 0) <= MOST_KILLS
    return bool(attrs.get("lost")) and is_spared
