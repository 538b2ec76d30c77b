"""A study in a real storage: what is asked for, what is told, and what is tried again."""

import math
import multiprocessing
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from optuna.samplers import RandomSampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from flows.sweep import study
from flows.sweep.choosing import drawn
from flows.sweep.plan import Plan, plan
from flows.sweep.section import Sweep
from flows.sweep.storage import connect
from flows.sweep.study import Search, is_retried
from tasks import files, tracking
from tasks.errors import StageError
from tasks.evaluate import Evaluate
from tasks.models import Models
from tasks.trials import Outcome

ROOT = Path(__file__).parent.parent
WRITTEN = files.read_yaml(ROOT / "params.yaml")
SPACE = {"max_depth": {"low": 1, "high": 16}, "learning_rate": {"low": 0.01, "high": 1.0}}
SPACE_AS_WRITTEN = {"trees": {name: {**ends, "log": False} for name, ends in SPACE.items()}}
GRID = {"max_depth": [2, 3], "subsample": [0.5, 0.75, 1.0]}


def made(space: Any = SPACE, **settings: Any) -> Plan:
    section = {
        **WRITTEN["sweep"],
        "n_trials": 4,
        "sampler": "random",
        "space": {"trees": space},
        **settings,
    }
    values = {
        "sweep": Sweep.model_validate(section),
        "model": "trees",
        "models": Models.model_validate(WRITTEN["models"]),
        "evaluate": Evaluate.model_validate(WRITTEN["evaluate"]),
        "seed": 1,
    }
    return plan(values, {})


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a storage without a study: to make one takes a while."""
    folder = tmp_path_factory.mktemp("empty")
    connect(f"sqlite:///{folder}/made/sweeps.db")
    with closing(sqlite3.connect(folder / "made" / "sweeps.db")) as database:
        database.execute(f"VACUUM INTO '{folder}/sweeps.db'")
    return folder / "sweeps.db"


@pytest.fixture
def planned(empty: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Plan]:
    """Plan a sweep whose storage is a file of its own."""
    monkeypatch.chdir(tmp_path)
    for name in ("sweeps", "other"):
        (tmp_path / ".verbatim").mkdir(exist_ok=True)
        shutil.copy(empty, tmp_path / ".verbatim" / f"{name}.db")
    monkeypatch.delenv("OPTUNA_STORAGE", raising=False)
    return made


@pytest.fixture
def dead() -> str:
    """A process of this machine that has ended, as a driver names itself."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return f"{socket.gethostname()}:{process.pid}"


def begun(plan: Plan) -> Search:
    search = Search(plan)
    search.begin()
    return search


def asked(search: Search) -> FrozenTrial:
    trial = search.ask()
    assert trial is not None
    return trial


def told(search: Search, trial: FrozenTrial, value: float = 0.5) -> FrozenTrial:
    scores = np.array([0.25, 0.75], np.float32)
    outcome = Outcome(7, [{"step": 1, "val_roc_auc": value}], {"roc_auc": value}, scores, 1.5)
    return search.tell(trial, outcome, "roc_auc")


def finish(search: Search) -> list[dict[str, Any]]:
    """Have all be told that is asked for; give the parameters."""
    found = []
    while trial := search.ask():
        told(search, trial, trial.params.get("learning_rate", 0.5))
        found.append(trial.params)
    return found


class TestWhatIsAskedFor:
    def test_what_is_in_use_is_tried_first_and_known_by_it(self, planned: Callable[..., Plan]):
        search = begun(planned())
        first, second = asked(search), asked(search)
        assert first.params == search._plan.current == {"max_depth": 3, "learning_rate": 0.05}
        assert first.user_attrs["current"] is True
        assert second.params != first.params
        assert "current" not in second.user_attrs

    @pytest.mark.parametrize(
        "space",
        [
            {"max_depth": {"low": 4, "high": 9}},
            {"max_depth": [2, 4]},
            {"max_depth": {"low": 2, "high": 8, "step": 2}},
            {"max_depth": [3, 4], "learning_rate": {"low": 0.1, "high": 1.0, "log": True}},
        ],
    )
    def test_what_is_in_use_is_not_tried_where_it_is_not_searched(
        self, planned: Callable[..., Plan], space: Any
    ):
        search = begun(planned(space))
        assert search.trials() == []
        assert "current" not in asked(search).user_attrs

    @pytest.mark.parametrize(
        "space",
        [
            {"max_depth": {"low": 1, "high": 9, "step": 2}},
            {"max_depth": [2, 3]},
            {"subsample": {"low": 0.1, "high": 0.9, "step": 0.1}},
            {"reg_lambda": {"low": 1, "high": 10, "log": True}},
        ],
    )
    def test_what_is_in_use_is_found_among_steps_choices_and_bounds(
        self, planned: Callable[..., Plan], space: Any
    ):
        assert asked(begun(planned(space))).user_attrs["current"]

    def test_as_many_are_asked_for_as_are_wanted(self, planned: Callable[..., Plan]):
        search = begun(planned(n_trials=4))
        running = [asked(search) for _ in range(4)]
        assert search.ask() is None, "they are at work"
        told(search, running[0])
        search.fail(running[1], "too deep")
        search.tell(running[2], Outcome(1, [{"val_roc_auc": 0.4}], {}, None, 0.1), "roc_auc")
        assert search.ask() is None, "however they end"
        assert [trial.number for trial in search.done()] == [0, 1, 2]

    def test_a_sweep_goes_on_where_it_was_and_draws_what_is_new(self, planned: Callable[..., Plan]):
        first = finish(begun(planned(n_trials=4)))
        assert len(first) == 4
        search = begun(planned(n_trials=6))
        assert search.greeting() == f"{search._plan.name}: 4 of 6 trials were there before"
        second = finish(search)
        assert len(second) == 2
        assert all(params not in first for params in second)
        assert sum("current" in trial.user_attrs for trial in search.trials()) == 1
        assert finish(begun(planned(n_trials=5))) == []

    @pytest.mark.parametrize("sampler", ["tpe", "cmaes"])
    def test_the_same_seed_asks_for_the_same(self, planned: Callable[..., Plan], sampler: str):
        found = [
            finish(
                begun(
                    planned(sampler=sampler, n_trials=5, storage=f"sqlite:///.verbatim/{name}.db")
                )
            )
            for name in ("sweeps", "other")
        ]
        assert found[0] == found[1]
        assert len(found[0]) == 5

    def test_two_drivers_share_the_trials(self, planned: Callable[..., Plan]):
        one, other = begun(planned(n_trials=5)), begun(planned(n_trials=5))
        numbers = [asked(search).number for search in (one, other, one, other, one)]
        assert numbers == [0, 1, 2, 3, 4]
        assert one.ask() is None
        assert other.ask() is None

    @pytest.mark.parametrize("sampler", ["random", "tpe"])
    def test_drivers_that_begin_together_do_not_draw_the_same(
        self, planned: Callable[..., Plan], sampler: str
    ):
        drivers = [begun(planned(n_trials=9, sampler=sampler)) for _ in range(3)]
        found = [asked(driver).params for _ in range(3) for driver in drivers]
        assert len({tuple(params.values()) for params in found}) == 9

    def test_who_draws_sees_the_trials_that_are_running(self, planned: Callable[..., Plan]):
        class Watching(RandomSampler):
            def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> Any:
                found = study.get_trials(states=(TrialState.RUNNING,))
                seen.extend((trial.number, each.number, each.params) for each in found)
                return {}

        seen: list[Any] = []
        search = begun(planned())
        first = asked(search)
        draft = drawn(search.study, Watching(), search.trials(), search._distributions)
        assert seen == [(1, 0, first.params)]
        assert draft.params.keys() == first.params.keys()
        assert search.trials() == [first], "it is a draft"

    def test_what_somebody_enqueued_is_left_alone(self, planned: Callable[..., Plan]):
        search = begun(planned(n_trials=2))
        search.study.enqueue_trial({"max_depth": 2})
        assert [asked(search).number for _ in range(2)] == [1, 2]
        assert search.ask() is None
        assert [trial.number for trial in search.trials()] == [1, 2]

    def test_a_sweep_that_was_cut_off_draws_what_it_would_have_drawn(
        self, planned: Callable[..., Plan]
    ):
        other = "sqlite:///.verbatim/other.db"
        whole = finish(begun(planned(n_trials=6, storage=other)))
        cut = [params for most in (2, 3, 6) for params in finish(begun(planned(n_trials=most)))]
        assert cut == whole

    def test_it_is_said_what_is_searched(self, planned: Callable[..., Plan]):
        search = begun(planned())
        assert search.greeting() == f"{search._plan.name}: 4 trials"
        facts = Search(planned()).study.user_attrs
        assert facts["key"] == search._plan.key
        assert (facts["model"], facts["metric"]) == ("trees", "roc_auc")
        assert facts["fixed"] == search._plan.fixed
        assert facts["sweep"]["space"] == SPACE_AS_WRITTEN
        assert facts["command"]["n_trials"] == 4
        assert "sweeps.db" not in str(facts), "which may hold a password"


class TestGrid:
    def test_all_is_tried_once_and_then_the_sweep_ends(self, planned: Callable[..., Plan]):
        search = begun(planned(GRID, sampler="grid", n_trials=50))
        found = finish(search)
        assert sorted(tuple(params.values()) for params in found) == [
            (depth, share) for depth in (2, 3) for share in (0.5, 0.75, 1.0)
        ]
        assert search.ask() is None
        assert finish(begun(planned(GRID, sampler="grid", n_trials=50))) == []

    def test_a_grid_that_goes_on_repeats_nothing_and_misses_nothing(
        self, planned: Callable[..., Plan]
    ):
        found = [
            finish(begun(planned(GRID, sampler="grid", n_trials=most))) for most in (2, 3, 5, 50)
        ]
        assert [len(each) for each in found] == [2, 1, 2, 1]
        assert len({tuple(params.values()) for each in found for params in each}) == 6

    def test_what_is_being_tried_is_not_tried_twice(self, planned: Callable[..., Plan]):
        search = begun(planned(GRID, sampler="grid", n_trials=50))
        running = [asked(search) for _ in range(6)]
        assert search.ask() is None
        assert len({tuple(trial.params.values()) for trial in running}) == 6
        for trial in running:
            told(search, trial)
        assert search.ask() is None

    def test_what_was_lost_is_tried_again(self, planned: Callable[..., Plan]):
        search = begun(planned(GRID, sampler="grid", n_trials=50))
        lost = asked(search)
        search.lose(lost, "the sweep was interrupted")
        again = asked(search)
        assert again.params == lost.params
        running = [again, *(asked(search) for _ in range(5))]
        assert search.ask() is None
        assert len({tuple(trial.params.values()) for trial in running}) == 6
        for trial in reversed(running):
            told(search, trial)
        assert search.ask() is None

    def test_it_may_end_before(self, planned: Callable[..., Plan]):
        assert len(finish(begun(planned(GRID, sampler="grid", n_trials=4)))) == 4


class TestWhatIsTold:
    def test_of_a_complete_trial_all_is_kept(self, planned: Callable[..., Plan]):
        search = begun(planned())
        trial = told(search, asked(search), 0.75)
        assert (trial.state, trial.value) == (TrialState.COMPLETE, 0.75)
        assert trial.user_attrs["outcome"] == {
            "metrics": {"roc_auc": 0.75},
            "curve": [{"step": 1, "val_roc_auc": 0.75}],
            "steps": 7,
            "seconds": 1.5,
            "words": "roc_auc=0.75000 after 7 steps in 1.5 s",
        }
        assert trial.user_attrs["driver"]["process"] == f"{socket.gethostname()}:{os.getpid()}"
        (kept,) = Search(planned()).done()
        assert kept.user_attrs == trial.user_attrs

    def test_of_a_pruned_trial_the_last_value_is_kept(self, planned: Callable[..., Plan]):
        search = begun(planned())
        trial = asked(search)
        curve = [{"step": step, "val_roc_auc": value} for step, value in ((1, 0.3), (2, 0.4))]
        outcome = Outcome(2, curve, {}, None, 0.1)
        ended = search.tell(trial, outcome, "roc_auc")
        assert (ended.state, ended.value) == (TrialState.PRUNED, 0.4)
        assert not is_retried(ended)

    def test_of_a_trial_that_was_pruned_for_no_number_no_value_is_kept(
        self, planned: Callable[..., Plan]
    ):
        search = begun(planned())
        outcome = Outcome(1, [{"step": 1, "val_roc_auc": math.nan}], {}, None, 0.1)
        ended = search.tell(asked(search), outcome, "roc_auc")
        assert (ended.state, ended.value) == (TrialState.PRUNED, None)

    def test_of_a_failed_trial_the_reason_is_kept(self, planned: Callable[..., Plan]):
        search = begun(planned(n_trials=1))
        ended = search.fail(asked(search), "min_child_weight: must let trees split")
        assert ended.state == TrialState.FAIL
        assert ended.user_attrs["reason"] == "min_child_weight: must let trees split"
        assert not is_retried(ended)
        assert search.ask() is None, "it would fail again"


class TestWhatIsLost:
    def test_it_is_tried_again_and_does_not_count(self, planned: Callable[..., Plan]):
        search = begun(planned(n_trials=2))
        first = asked(search)
        ended = search.lose(first, "the sweep was interrupted")
        assert (ended.state, ended.user_attrs["lost"]) == (TrialState.FAIL, True)
        assert search.done() == []
        again = asked(search)
        assert again.params == first.params
        assert again.user_attrs["retry_of"] == first.number
        assert again.user_attrs["current"] is True, "what it stands for"
        told(search, again)
        told(search, asked(search))
        assert search.ask() is None
        assert [trial.number for trial in search.done()] == [1, 2]

    def test_an_interruption_may_happen_often(self, planned: Callable[..., Plan]):
        search = begun(planned(n_trials=1))
        for _ in range(4):
            trial = asked(search)
            search.lose(trial, "the sweep was interrupted")
            search = begun(planned(n_trials=1))
        again = asked(search)
        assert again.user_attrs["retry_of"] == trial.number
        assert "deaths" not in again.user_attrs
        assert search.ask() is None

    def test_a_trial_whose_worker_dies_again_is_given_up(self, planned: Callable[..., Plan]):
        search = begun(planned(n_trials=2))
        first = asked(search)
        search.lose(first, "its worker was killed by SIGKILL", kind="deaths")
        again = asked(search)
        assert again.params == first.params
        assert (again.user_attrs["retry_of"], again.user_attrs["deaths"]) == (first.number, 1)
        ended = search.lose(again, "its worker was killed by SIGKILL", kind="deaths")
        assert ended.user_attrs["deaths"] == 2
        assert [trial.number for trial in search.done()] == [again.number]
        other = asked(search)
        assert other.params != first.params
        assert "retry_of" not in other.user_attrs
        assert search.ask() is None, "what was given up counts"

    def test_an_interruption_between_two_deaths_forgives_none(self, planned: Callable[..., Plan]):
        search = begun(planned(n_trials=1))
        search.lose(asked(search), "its worker was killed by SIGKILL", kind="deaths")
        search.lose(asked(search), "the sweep was interrupted")
        search.lose(asked(search), "its worker was killed by SIGKILL", kind="deaths")
        assert len(search.done()) == 1
        assert search.ask() is None

    def test_what_has_ended_meanwhile_stays_as_it_is(self, planned: Callable[..., Plan]):
        search = begun(planned())
        trial = asked(search)
        ended = told(search, trial)
        assert search.lose(trial, "the sweep was interrupted").state == TrialState.COMPLETE
        (kept,) = search.done()
        assert kept.user_attrs == ended.user_attrs

    def test_trials_of_a_dead_driver_are_lost(self, planned: Callable[..., Plan], dead: str):
        search = begun(planned(n_trials=3))
        trials = [asked(search) for _ in range(3)]
        drive(trials[0], driven_by(dead))
        told(search, trials[1])
        other = begun(planned(n_trials=3))
        assert [trial.state for trial in other.trials()] == [
            TrialState.FAIL,
            TrialState.COMPLETE,
            TrialState.RUNNING,
        ]
        assert other.trials()[0].user_attrs["reason"] == "the process that drove it was killed"
        again = asked(other)
        assert again.user_attrs["retry_of"] == 0
        assert again.params == trials[0].params
        assert other.ask() is None

    def test_a_driver_that_was_killed_has_lost_its_trials(self, planned: Callable[..., Plan]):
        context = multiprocessing.get_context("spawn")
        has_asked = context.Event()
        driver = context.Process(target=_ask, args=(has_asked,))
        driver.start()
        assert has_asked.wait(60)
        search = begun(planned(n_trials=1))
        assert search.ask() is None, "it is at work"
        os.kill(driver.pid, signal.SIGKILL)
        driver.join()
        search.begin()
        assert asked(search).user_attrs["retry_of"] == 0

    @pytest.mark.parametrize("settings", [{}, {"space": GRID, "sampler": "grid"}])
    def test_a_trial_is_whole_and_signed_from_its_first_moment(
        self, planned: Callable[..., Plan], monkeypatch: pytest.MonkeyPatch, settings: Any
    ):
        search = begun(planned(n_trials=3, **settings))
        told(search, asked(search))
        make = search._storage.create_new_trial

        def killed(*given: Any) -> None:
            make(*given)
            raise KeyboardInterrupt

        monkeypatch.setattr(search._storage, "create_new_trial", killed)
        with pytest.raises(KeyboardInterrupt):
            search.ask()
        left = Search(planned(n_trials=3, **settings)).trials()[-1]
        assert (left.number, left.state) == (1, TrialState.RUNNING)
        assert left.params.keys() == search._distributions.keys()
        assert left.user_attrs["driver"]["process"] == search.process
        again = asked(begun(planned(n_trials=3, **settings)))
        assert (again.user_attrs["retry_of"], again.params) == (1, left.params)

    @pytest.mark.parametrize("owner", ["this process", "its parent", "another machine"])
    def test_trials_of_a_driver_that_is_at_work_are_left_alone(
        self, planned: Callable[..., Plan], owner: str
    ):
        search = begun(planned())
        trial = asked(search)
        if owner == "its parent":
            drive(trial, driven_by(f"{socket.gethostname()}:{os.getppid()}"))
        if owner == "another machine":
            drive(trial, driven_by("another-machine:1"))
        assert [each.state for each in begun(planned()).trials()] == [TrialState.RUNNING]

    def test_trials_of_another_machine_that_was_not_seen_for_long_are_lost(
        self, planned: Callable[..., Plan]
    ):
        trial = asked(begun(planned()))
        drive(trial, driven_by("another-machine:1", silent_seconds=3601))
        assert begun(planned()).trials()[0].state == TrialState.FAIL

    def test_a_trial_that_nobody_has_signed_is_lost(self, planned: Callable[..., Plan]):
        search = begun(planned())
        search.study.ask(search._distributions)
        assert begun(planned()).trials()[0].state == TrialState.FAIL

    def test_one_that_kills_its_driver_again_and_again_is_given_up(
        self, planned: Callable[..., Plan]
    ):
        tries = 0
        for _ in range(9):
            trial = begun(planned(n_trials=1)).ask()
            if trial is None:
                break
            tries += 1
            drive(trial, driven_by(_dead()))
        assert tries == 1 + study.MOST_KILLS
        (last,) = begun(planned(n_trials=1)).done()
        assert last.user_attrs["kills"] == tries

    def test_a_process_that_bears_the_name_of_a_dead_driver_does_not_count_for_it(
        self, planned: Callable[..., Plan], monkeypatch: pytest.MonkeyPatch
    ):
        left = asked(begun(planned(n_trials=1)))
        monkeypatch.setattr(study, "_given", {})  # as in a container that was started again
        again = begun(planned(n_trials=1)).ask()
        assert again is not None
        assert again.user_attrs["retry_of"] == left.number

    def test_the_last_one_at_work_takes_over_what_a_dead_driver_left(
        self, planned: Callable[..., Plan]
    ):
        search = begun(planned(n_trials=1))
        left = asked(search)
        assert search.ask() is None, "its driver lives"
        drive(left, driven_by(_dead()))
        again = search.ask()
        assert again is not None
        assert (again.user_attrs["retry_of"], again.params) == (left.number, left.params)


def driven_by(process: str, *, silent_seconds: int = 0) -> dict[str, Any]:
    seen = int(tracking.recorder()["seen"]) - 1000 * silent_seconds
    return {"process": process, "seen": seen}


def drive(trial: FrozenTrial, driver: dict[str, Any]) -> None:
    """Have another driver have begun a trial."""
    storage = connect(made().conditions.storage)
    storage.set_trial_user_attr(trial._trial_id, "driver", driver)


def _dead() -> str:
    """A process of this machine that has ended, as a driver."""
    ended = subprocess.Popen(["true"])
    ended.wait()
    return tracking.recorder()["recorder"].rpartition(":")[0] + f":{ended.pid}"


def _ask(has_asked: Any) -> None:
    asked(begun(made(n_trials=1)))
    has_asked.set()
    signal.pause()


def test_signs_of_life_are_given_once_in_a_while(
    planned: Callable[..., Plan], monkeypatch: pytest.MonkeyPatch
):
    search = begun(planned())
    trial, other = asked(search), asked(search)
    for each in (trial, other):
        drive(each, {"process": search.process, "seen": 1})
    search.sign([trial])
    assert [each.user_attrs["driver"]["seen"] for each in search.trials()] == [1, 1]
    monkeypatch.setattr(study, "SECONDS_BETWEEN_SIGNS", -1)
    search.sign([trial])
    seen, unseen = (each.user_attrs["driver"]["seen"] for each in search.trials())
    assert unseen == 1
    assert not tracking.is_gone("another-machine:1", seen)


def test_a_trial_that_another_driver_took_for_lost_stays_lost(planned: Callable[..., Plan]):
    search = begun(planned())
    trial = asked(search)
    search.lose(trial, "it was silent for an hour")
    search.fail(trial, "and then it failed")
    (told,) = search.trials(TrialState.FAIL)
    assert told.user_attrs["reason"] == "it was silent for an hour"


def test_a_storage_that_does_not_answer_is_named(tmp_path: Path):
    (tmp_path / "file").touch()
    (tmp_path / "text.db").write_text("no database " * 100)
    for path, said in (("file/sweeps.db", "unable to open"), ("text.db", "is not a database")):
        with pytest.raises(StageError, match=r"sweep\.storage: must be a database") as caught:
            connect(f"sqlite:///{tmp_path}/{path}")
        assert said in str(caught.value)
        assert "next: start it, or correct sweep.storage" in str(caught.value)
