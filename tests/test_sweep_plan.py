"""What a sweep is about, and the name that follows from it."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from flows import preflight
from flows.sweep.plan import Plan, plan
from tasks import metrics

ROOT = Path(__file__).parent.parent
CAUSES: dict[str, dict[str, Any]] = {
    "ingest": {"cmd": "ingest", "params": {"ingest": {"source": "lake"}}, "deps": {"lake": "1"}},
    "featurize": {"cmd": "featurize", "params": {"seed": 1}, "deps": {"tasks/featurize.py": "2"}},
    "train": {"cmd": "train", "params": {"seed": 1}, "deps": {"tasks/train.py": "3"}},
    "evaluate": {"cmd": "evaluate", "params": {}, "deps": {"tasks/evaluate.py": "4"}},
}


@pytest.fixture
def planned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Plan]:
    """Plan with the shipped parameters, of which some are replaced by their paths."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("OPTUNA_STORAGE", raising=False)
    shutil.copy(ROOT / "dvc.yaml", tmp_path)

    def made(changes: dict[str, Any] | None = None, causes: Any = CAUSES) -> Plan:
        written = yaml.safe_load((ROOT / "params.yaml").read_text())
        for path, value in (changes or {}).items():
            *branches, last = path.split(".")
            branch = written
            for key in branches:
                branch = branch[key]
            assert last in branch, path
            branch[last] = value
        (tmp_path / "params.yaml").write_text(yaml.safe_dump(written))
        return plan(preflight.check(needed=("sweep",)), causes)

    return made


def test_the_same_content_has_the_same_name(planned: Callable[..., Plan]):
    one, other = planned(), planned()
    assert one.key == other.key
    assert len(one.key) == 64
    assert one.name == other.name == f"hyperopt-trees-{one.key[:8]}"


@pytest.mark.parametrize(
    "changes",
    [
        {"sweep.space.trees": {"max_depth": [2, 3]}},
        {"sweep.space.trees.subsample": {"low": 0.3, "high": 0.9}},
        {"sweep.metric": "pr_auc"},
        {"sweep.metric": "brier", "sweep.direction": "minimize"},
        {"sweep.sampler": "random"},
        {"sweep.pruner": "none"},
        {"models.trees.max_rounds": 999},
        {"models.trees.early_stopping_rounds": 49},
        {"models.trees.device": "auto"},
        {"seed": 1998},
        {"evaluate.threshold": 0.4},
        {"evaluate.calibration_bins": 9},
        {"model": "network"},
    ],
)
def test_what_the_values_depend_on_changes_the_name(
    planned: Callable[..., Plan], changes: dict[str, Any]
):
    one, other = planned(), planned(changes)
    assert one.key != other.key
    assert one.name != other.name


@pytest.mark.parametrize(
    "changes",
    [
        {"sweep.n_trials": 3},
        {"sweep.timeout_seconds": 60},
        {"sweep.resamples": 1000},
        {"sweep.workers": 2, "sweep.engine": "ray"},
        {"sweep.cpus": 2, "sweep.gpus": 0.5, "sweep.gpu_type": "H100"},
        {"sweep.patience_seconds": 1},
        {"sweep.storage": "postgresql://user@host/database"},
        {"models.trees.max_depth": 5, "models.trees.learning_rate": 0.1},
        {"models.network.max_epochs": 99},
        {"sweep.space.network": {"width": [1, 2]}},
        {"evaluate.min_auc": 0.9},
        {"register.intent": "ablation"},
        {"train.refit": False},
    ],
)
def test_what_they_do_not_depend_on_leaves_the_name(
    planned: Callable[..., Plan], changes: dict[str, Any]
):
    one, other = planned(), planned(changes)
    assert (one.key, one.name) == (other.key, other.name)


def test_the_storage_of_the_environment_goes_first(
    planned: Callable[..., Plan], monkeypatch: pytest.MonkeyPatch
):
    before = planned()
    file = before.sweep.storage.removeprefix("sqlite:///")
    assert before.conditions.storage == f"sqlite:///{Path(file).resolve()}", "wherever trials run"
    monkeypatch.setenv("OPTUNA_STORAGE", "postgresql://elsewhere/trials")
    after = planned()
    assert after.conditions.storage == "postgresql://elsewhere/trials"
    assert after.key == before.key


def changed(stage: str, **parts: Any) -> dict[str, dict[str, Any]]:
    return CAUSES | {stage: CAUSES[stage] | parts}


@pytest.mark.parametrize(
    "causes",
    [
        changed("ingest", deps={"lake": "9"}),
        changed("ingest", params={"ingest": {"source": "another"}}),
        changed("featurize", cmd="featurize otherwise"),
        changed("featurize", deps={}),
        changed("train", deps={"tasks/train.py": "9"}),
        {name: CAUSES[name] for name in CAUSES if name != "ingest"},
    ],
)
def test_other_data_or_code_before_or_of_the_training_changes_the_name(
    planned: Callable[..., Plan], causes: Any
):
    assert planned().key != planned(causes=causes).key


@pytest.mark.parametrize(
    "causes",
    [
        changed("train", params={"seed": 2, "models.trees": {"max_depth": 9}}),
        changed("evaluate", deps={"tasks/evaluate.py": "9"}),
        {name: CAUSES[name] for name in CAUSES if name != "evaluate"},
    ],
)
def test_what_comes_after_or_is_told_apart_leaves_the_name(
    planned: Callable[..., Plan], causes: Any
):
    assert planned().key == planned(causes=causes).key


def test_parameters_are_either_searched_or_fixed(planned: Callable[..., Plan]):
    got = planned({"sweep.space.trees": {"max_depth": [2, 3], "subsample": [0.5, 1]}})
    assert got.current == {"max_depth": 3, "subsample": 0.5}
    assert got.space.keys() == got.current.keys()
    assert got.fixed.keys().isdisjoint(got.current)
    assert {**got.fixed, **got.current} == got.conditions.settings


def test_steps_are_those_that_the_learner_takes_at_most(planned: Callable[..., Plan]):
    def most(**settings: Any) -> int:
        return planned({key.replace("__", "."): settings[key] for key in settings}).conditions.steps

    assert most(models__trees__max_rounds=77) == 77
    assert most(model="network", models__network__max_epochs=5) == 5
    space = {"max_depth": [2, 3], "max_rounds": {"low": 10, "high": 90}}
    assert most(models__trees__max_rounds=77, sweep__space__trees=space) == 90
    space |= {"max_rounds": [50, 60]}
    assert most(models__trees__max_rounds=77, sweep__space__trees=space) == 77


def test_more_quality_is_better_whatever_the_metric(planned: Callable[..., Plan]):
    good, bad = (
        metrics.tally(np.array([0, 0, 1, 1]), np.array(scores))
        for scores in ([0.1, 0.2, 0.8, 0.9], [0.9, 0.2, 0.8, 0.1])
    )
    for metric, direction in (
        ("roc_auc", "maximize"),
        ("f1", "maximize"),
        ("log_loss", "minimize"),
        ("calibration_error", "minimize"),
    ):
        got = planned({"sweep.metric": metric, "sweep.direction": direction})
        assert got.is_larger_better == (direction == "maximize")
        assert got.quality(good) > got.quality(bad)
        assert abs(got.quality(good)) == got.conditions.measures()[metric](good)
