"""Optuna's tables with fewer and plainer statements: they are much of what a trial costs.

What Optuna asks before each parameter and attribute of a trial, and reads by its object mapper for
each of its relations, is here one statement a table. Tables and rows stay as Optuna makes them: its
own storage reads what this one writes. If it names an overridden method otherwise, it is only
slower.
"""

from __future__ import annotations

import copy
import json
from collections import defaultdict
from collections.abc import Container, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

from optuna.distributions import distribution_to_json
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import RDBStorage
from optuna.storages._rdb import models
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import Connection, Table, func, select

STUDIES: Table = models.StudyModel.__table__
TRIALS: Table = models.TrialModel.__table__
PARAMS: Table = models.TrialParamModel.__table__
VALUES: Table = models.TrialValueModel.__table__
USER_ATTRS: Table = models.TrialUserAttributeModel.__table__
SYSTEM_ATTRS: Table = models.TrialSystemAttributeModel.__table__
STEPS: Table = models.TrialIntermediateValueModel.__table__

RELATIONS = {
    "params": PARAMS,
    "values": VALUES,
    "user_attributes": USER_ATTRS,
    "system_attributes": SYSTEM_ATTRS,
    "intermediate_values": STEPS,
}
"""Where what belongs to a trial is, by its name in Optuna's model of a trial."""

Rows = Iterable[Mapping[str, Any]]


class Storage(RDBStorage):
    """Optuna's storage, for trials that enter whole and end at once."""

    def _create_new_trial(
        self, study_id: int, template_trial: FrozenTrial | None = None
    ) -> FrozenTrial:
        """Enter a trial that runs.

        Nobody is asked whether others had the same distributions: all of a study have, whose name
        stands for its space.
        """
        if template_trial is None or template_trial.state.is_finished():
            return super()._create_new_trial(study_id, template_trial)
        trial, its = copy.deepcopy(template_trial), TRIALS.c.study_id == study_id
        lock = select(STUDIES.c.study_id).where(STUDIES.c.study_id == study_id).with_for_update()
        before = select(func.count()).where(its).scalar_subquery()
        row = {
            "study_id": study_id,
            "number": before,
            "state": trial.state,
            "datetime_start": _stored(trial.datetime_start),
        }
        enter = TRIALS.insert().values(row).returning(TRIALS.c.trial_id, TRIALS.c.number)
        with self.engine.begin() as connection:
            connection.execute(lock).one()  # or two trials could take the same number
            trial_id, trial.number = connection.execute(enter).one()
            _add(connection, PARAMS, trial_id, _params(trial))
            _add(connection, USER_ATTRS, trial_id, _attributes(trial.user_attrs))
            _add(connection, SYSTEM_ATTRS, trial_id, _attributes(trial.system_attrs))
        trial._trial_id = trial_id  # noqa: SLF001 - so a storage knows it
        return trial

    def finish_trial(
        self, trial_id: int, state: TrialState, value: float | None, attrs: Mapping[str, Any]
    ) -> None:
        """Write attributes of a trial and end it, in one transaction where Optuna takes several.

        Raises UpdateFinishedTrialError if it has ended.
        """
        row = {"state": state, "datetime_complete": _stored(datetime.now())}  # noqa: DTZ005
        runs = (TRIALS.c.trial_id == trial_id) & (TRIALS.c.state == TrialState.RUNNING)
        known = (USER_ATTRS.c.trial_id == trial_id) & USER_ATTRS.c.key.in_(attrs)
        with self.engine.begin() as connection:
            if not connection.execute(TRIALS.update().where(runs).values(row)).rowcount:
                raise UpdateFinishedTrialError
            connection.execute(USER_ATTRS.delete().where(known))
            _add(connection, USER_ATTRS, trial_id, _attributes(attrs))
            _add(connection, VALUES, trial_id, _values(value))

    def _get_trials(
        self,
        study_id: int,
        states: Container[TrialState] | None,
        included_trial_ids: set[int],
        trial_id_greater_than: int,
    ) -> list[FrozenTrial]:
        """Read the trials of a study that are new, or had not finished before."""
        if states is not None:
            return super()._get_trials(study_id, states, included_trial_ids, trial_id_greater_than)
        its = TRIALS.c.trial_id
        is_new = (its > trial_id_greater_than) | its.in_(included_trial_ids)
        is_asked = (TRIALS.c.study_id == study_id) & is_new
        with self.engine.connect() as connection:
            asked = TRIALS.select().where(is_asked).order_by(its)
            trials = connection.execute(asked).all()  # first, since a trial is ended last
            rows = defaultdict[tuple[str, int], list[Any]](list)
            for name, table in RELATIONS.items() if trials else ():
                for row in connection.execute(table.select().join(TRIALS).where(is_asked)):
                    rows[name, row.trial_id].append(row)
        return [self._built(trial, rows) for trial in trials]

    def _built(self, trial: Any, rows: Mapping[tuple[str, int], list[Any]]) -> FrozenTrial:
        """Have Optuna make a trial of its row and those that belong to it."""
        model: Any = SimpleNamespace(
            trial_id=trial.trial_id,
            number=trial.number,
            state=trial.state,
            datetime_start=_local(trial.datetime_start),
            datetime_complete=_local(trial.datetime_complete),
            **{name: rows.get((name, trial.trial_id), []) for name in RELATIONS},
        )
        return self._build_frozen_trial_from_trial_model(model)


def _add(connection: Connection, table: Table, trial_id: int, rows: Rows) -> None:
    """Add rows of a trial by one statement."""
    if its := [{"trial_id": trial_id, **row} for row in rows]:
        connection.execute(table.insert(), its)


def _params(trial: FrozenTrial) -> Iterator[dict[str, Any]]:
    for name, value in trial.params.items():
        distribution = trial.distributions[name]
        yield {
            "param_name": name,
            "param_value": distribution.to_internal_repr(value),
            "distribution_json": distribution_to_json(distribution),
        }


def _attributes(attrs: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for key, value in attrs.items():
        yield {"key": key, "value_json": json.dumps(value)}


def _values(value: float | None) -> Iterator[dict[str, Any]]:
    if value is not None:
        stored, kind = models.TrialValueModel.value_to_stored_repr(value)
        yield {"objective": 0, "value": stored, "value_type": kind}


def _stored(moment: datetime | None) -> datetime | None:
    """Give a local time without a zone in UTC, as it is stored."""
    return None if moment is None else moment.astimezone(UTC).replace(tzinfo=None)


def _local(moment: datetime | None) -> datetime | None:
    """Give a stored time as the local one."""
    if moment is None:
        return None
    return moment.replace(tzinfo=UTC).astimezone().replace(tzinfo=None)
