"""Trials of ours in Optuna's tables: its own storage tells the same of them, in more words."""

import math
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import optuna
import pytest
import sqlalchemy
from conftest import running_postgres
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import RDBStorage
from optuna.storages._rdb import models
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial

from flows.sweep.rows import Storage

SPACE: dict[str, BaseDistribution] = {
    "learning_rate": FloatDistribution(1e-4, 0.1, log=True),
    "max_depth": IntDistribution(3, 10),
    "booster": CategoricalDistribution(("gbtree", None, 0.5)),
}
PARAMS = {"learning_rate": 0.0123, "max_depth": 7, "booster": None}
DRAFT = create_trial(
    state=TrialState.RUNNING,
    params=PARAMS,
    distributions=SPACE,
    user_attrs={"driver": {"process": "host:1", "seen": 3}, "current": True},
    system_attrs={"grid_id": 4},
)


Opened = Callable[[type[RDBStorage]], Any]


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """A PostgreSQL for the tests of this module."""
    with running_postgres() as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Opened]:
    """Open storages of a kind in one database, with one study; they are closed in the end."""
    storages = list[RDBStorage]()

    def make(kind: type[RDBStorage]) -> Any:
        storages.append(kind(url))
        return storages[-1]

    url = f"sqlite:///{tmp_path}/sweeps.db"
    if request.param == "postgresql":
        url = request.getfixturevalue("server")
    storage = make(RDBStorage)
    storage.create_new_study([StudyDirection.MAXIMIZE], "a study")
    yield make
    models.BaseModel.metadata.drop_all(storage.engine)
    for each in storages:
        each.engine.dispose()


STUDY = 1
"""As a storage knows its first study."""


def read(storage: RDBStorage) -> list[FrozenTrial]:
    """Give all trials as a storage itself reads them."""
    return storage._get_trials(STUDY, None, set(), -1)


def statements(storage: Any, act: Callable[[Any], Any]) -> int:
    """Count the statements that an act makes."""
    made = list[str]()

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        made.append(statement)

    sqlalchemy.event.listen(storage.engine, "before_cursor_execute", note)
    act(storage)
    sqlalchemy.event.remove(storage.engine, "before_cursor_execute", note)
    return len(made)


def test_optuna_reads_what_was_written_here(opened: Opened):
    storage = opened(Storage)
    before = datetime.now()  # noqa: DTZ005 - as Optuna gives it
    for _ in range(5):
        storage.create_new_trial(STUDY, DRAFT)
    storage.finish_trial(1, TrialState.COMPLETE, 0.75, {"outcome": {"steps": 3}, "current": 2})
    storage.set_trial_intermediate_value(2, 4, 0.25)
    storage.set_trial_intermediate_value(2, 8, math.nan)
    storage.finish_trial(2, TrialState.PRUNED, 0.25, {"outcome": {}})
    storage.finish_trial(3, TrialState.FAIL, None, {"reason": "no memory"})
    storage.finish_trial(4, TrialState.COMPLETE, -math.inf, {})
    ours, theirs = read(storage), read(opened(RDBStorage))
    assert repr(ours) == repr(theirs), "also of what is not equal to itself"
    assert [each.number for each in theirs] == [0, 1, 2, 3, 4]
    assert [each.state.name for each in theirs] == [
        "COMPLETE",
        "PRUNED",
        "FAIL",
        "COMPLETE",
        "RUNNING",
    ]
    assert [each.value for each in theirs] == [0.75, 0.25, None, -math.inf, None]
    assert {tuple(each.params.items()) for each in theirs} == {tuple(PARAMS.items())}
    assert {tuple(each.distributions.items()) for each in theirs} == {tuple(SPACE.items())}
    assert [each.system_attrs for each in theirs] == [{"grid_id": 4}] * 5
    first, running = theirs[0], theirs[-1]
    assert first.user_attrs == {**DRAFT.user_attrs, "outcome": {"steps": 3}, "current": 2}
    assert (running.user_attrs, running.datetime_complete) == (DRAFT.user_attrs, None)
    assert theirs[1].intermediate_values[4] == 0.25
    assert first.datetime_start == DRAFT.datetime_start
    assert first.datetime_complete is not None
    assert timedelta(0) <= first.datetime_complete - before < timedelta(minutes=5)


def test_what_optuna_has_written_is_read_here(opened: Opened):
    theirs = opened(RDBStorage)
    ended = create_trial(value=0.5, params=PARAMS, distributions=SPACE)
    for template in (DRAFT, ended, None):
        theirs.create_new_trial(STUDY, template)
    theirs.set_trial_user_attr(3, "reason", "none")
    storage = opened(Storage)
    assert read(storage) == read(theirs)
    for given in ({1, 3}, 0), (set[int](), 1), ({3}, 1), (set[int](), 3):
        assert storage._get_trials(STUDY, None, *given) == theirs._get_trials(STUDY, None, *given)
    running = [TrialState.RUNNING]
    assert [each.number for each in storage.get_all_trials(STUDY, states=running)] == [0, 2]


def test_trials_that_have_ended_or_lack_all_are_made_as_by_optuna(opened: Opened):
    storage = opened(Storage)
    storage.create_new_trial(STUDY)
    storage.create_new_trial(STUDY, create_trial(value=0.5, params=PARAMS, distributions=SPACE))
    assert [each.state.name for each in read(storage)] == ["RUNNING", "COMPLETE"]


def test_a_trial_ends_once(opened: Opened):
    storage = opened(Storage)
    trial = storage.create_new_trial(STUDY, DRAFT)
    storage.finish_trial(trial, TrialState.FAIL, None, {"lost": True})
    with pytest.raises(UpdateFinishedTrialError):
        storage.finish_trial(trial, TrialState.COMPLETE, 0.5, {"outcome": 1, "lost": False})
    (left,) = read(opened(RDBStorage))
    assert (left.state, left.value) == (TrialState.FAIL, None)
    assert left.user_attrs == {**DRAFT.user_attrs, "lost": True}


def test_trials_that_are_made_at_once_have_numbers_of_their_own(opened: Opened):
    def make(_: int) -> None:
        optuna.storages.get_storage(opened(Storage)).create_new_trial(STUDY, DRAFT)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(make, range(24)))
    assert sorted(each.number for each in read(opened(Storage))) == list(range(24))


def test_it_takes_a_few_statements(opened: Opened):
    ours, theirs = opened(Storage), opened(RDBStorage)
    for _ in range(2):
        ours.create_new_trial(STUDY, DRAFT)
    for act, most in (
        (lambda storage: storage.create_new_trial(STUDY, DRAFT), 5),
        (lambda storage: storage._get_trials(STUDY, None, {1}, 0), 6),
    ):
        assert statements(ours, act) <= most < statements(theirs, act)
    end = {"state": TrialState.COMPLETE, "value": 0.5, "attrs": {"outcome": 1, "reason": 2}}
    assert statements(ours, lambda storage: storage.finish_trial(1, **end)) <= 4
