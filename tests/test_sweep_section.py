"""The section `sweep` of params.yaml: what is refused, and how it is said."""

import os
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from flows import preflight
from flows.sweep.section import PLACES, Sweep, dimensions, values
from tasks.errors import ParamsError
from tasks.models import Models

ROOT = Path(__file__).parent.parent
TWO = {"low": 0.1, "high": 0.5}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("dvc.yaml", "params.yaml"):
        shutil.copy(ROOT / name, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "params.yaml"


def search(path: Path, space: dict[str, Any] | None = None, **settings: Any) -> Sweep:
    """Write these settings into the section, and have it checked."""
    written = yaml.safe_load(path.read_text())
    written["sweep"] |= settings | ({} if space is None else {"space": space})
    path.write_text(yaml.safe_dump(written))
    return preflight.check(needed=("sweep",))["sweep"]


def complaints(path: Path, space: dict[str, Any] | None = None, **settings: Any) -> list[str]:
    with pytest.raises(ParamsError) as caught:
        search(path, space, **settings)
    return str(caught.value).splitlines()


def test_the_shipped_section_is_valid_for_either_learner(here: Path):
    sweep = search(here)
    for model, space in yaml.safe_load(here.read_text())["sweep"]["space"].items():
        assert dimensions(sweep, model).keys() == space.keys()


def test_a_checkout_without_the_section_can_train_but_not_sweep(here: Path):
    written = yaml.safe_load(here.read_text())
    del written["sweep"]
    here.write_text(yaml.safe_dump(written))
    assert "sweep" not in preflight.check()
    with pytest.raises(ParamsError, match=r"params\.yaml: sweep: Field required"):
        preflight.check(needed=("sweep",))


@pytest.mark.parametrize(
    ("dimension", "said"),
    [
        ({"max_dept": [2, 3]}, ".max_dept: Extra inputs are not permitted"),
        ({"max_depth": {"low": 3, "high": 3}}, ": Value error, high must be above low"),
        ({"max_depth": {"low": 4, "high": 3}}, ": Value error, high must be above low"),
        (
            {"min_child_weight": {"low": 0, "high": 9, "log": True}},
            ": Value error, low must be above 0 with log",
        ),
        (
            {"reg_lambda": {"low": 1, "high": 9, "log": True, "step": 1}},
            ": Value error, step cannot be combined with log",
        ),
        (
            {"max_depth": {"low": 2, "high": 4, "step": 3}},
            ": Value error, high must be low and some steps",
        ),
        (
            {"subsample": {"low": 0.2, "high": 0.9, "step": 0.2}},
            ": Value error, high must be low and some steps",
        ),
        (
            {"subsample": {"low": 0.2, "high": 0.4, "step": 0}},
            ": Value error, step must be above 0",
        ),
        ({"max_depth": {"low": 1.5, "high": 4}}, ".low: Input should be a valid integer (got 1.5)"),
        ({"max_depth": {"low": 2, "high": 4, "step": 0.5}}, ".step: Input should be a valid int"),
        ({"max_depth": {"low": 0, "high": 4}}, ".low: Input should be greater than or equal to 1"),
        ({"subsample": {"low": 0.5, "high": 1.5}}, ".high: Input should be less than or equal to"),
        ({"reg_lambda": {"low": -1, "high": 1}}, ".low: Input should be greater than or equal to"),
        ({"reg_lambda": {"low": 0, "high": float("inf")}}, ".high: Input should be a finite numb"),
        ({"reg_lambda": {"low": True, "high": "9"}}, ".low: Input should be a valid number"),
        ({"max_depth": [3]}, ": List should have at least 2 items"),
        ({"max_depth": [3, 4, 3]}, ": Value error, choices must differ from each other (got [3, 4"),
        ({"subsample": [0.5, 1, 1.0]}, ": Value error, choices must differ from each other"),
        ({"max_depth": [3, 17]}, ".1: Input should be less than or equal to 16 (got 17)"),
        ({"max_depth": [True, 3]}, ".0: Input should be a valid integer (got True)"),
        ({"max_depth": {"low": 3}}, ".high: Field required"),
        ({"max_depth": {"low": 3, "high": 4, "hihg": 5}}, ".hihg: Extra inputs are not permitted"),
        ({"max_depth": 3}, ": Value error, must be a range, such as"),
    ],
)
def test_what_cannot_be_searched_is_named_by_its_key(here: Path, dimension: Any, said: str):
    (name,) = dimension
    key = "" if name == "max_dept" else f".{name}"
    lines = complaints(here, {"trees": dimension})
    assert lines[0].startswith(f"params.yaml: sweep.space.trees{key}{said}")


def test_words_are_searched_among_choices_that_the_learner_takes(here: Path):
    key = "params.yaml: sweep.space.network.class_weight"
    (line,) = complaints(here, {"network": {"class_weight": ["none", "heavy"]}})
    assert line == f"{key}.1: Input should be 'none' or 'balanced' (got 'heavy')"
    (line,) = complaints(here, {"network": {"class_weight": TWO}})
    assert line.startswith(f"{key}: Input should be a valid array")


def test_where_a_model_is_computed_is_never_searched(here: Path):
    wanted = {
        model: {name: [1, 2] for name in PLACES if name in section.annotation.model_fields}
        for model, section in Models.model_fields.items()
    }
    assert sorted(wanted["network"]) == sorted(PLACES)
    assert {line.partition(" Extra")[0] for line in complaints(here, wanted)} == {
        f"params.yaml: sweep.space.{model}.{name}:" for model in wanted for name in wanted[model]
    }


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"metric": "auc"}, "metric: Input should be 'roc_auc', 'pr_auc'"),
        ({"direction": "minimize"}, "direction: Value error, must be maximize for roc_auc"),
        ({"metric": "brier"}, "direction: Value error, must be minimize for brier"),
        ({"sampler": "nsga"}, "sampler: Input should be 'tpe', 'random', 'grid' or 'cmaes'"),
        ({"pruner": None}, "pruner: Input should be 'median', 'hyperband' or 'none'"),
        ({"n_trials": 0}, "n_trials: Input should be greater than or equal to 1"),
        ({"workers": 0}, "workers: Input should be greater than or equal to 1"),
        ({"workers": 10_000}, f"workers: must be at most the {os.cpu_count()} cores"),
        ({"timeout_seconds": 0}, "timeout_seconds: Input should be greater than 0"),
        ({"resamples": 19}, "resamples: Input should be greater than or equal to 20"),
        ({"storage": "sweeps.db"}, "storage: Value error, must be sqlite:///FILE or postgresql"),
        ({"storage": "sqlite:///"}, "storage: Value error, must be sqlite:///FILE or postgresql"),
        (
            {"storage": "mysql://host/database"},
            "storage: Value error, must be sqlite:///FILE or postgresql",
        ),
        ({"trials": 9}, "trials: Extra inputs are not permitted"),
    ],
)
def test_a_wrong_setting_is_named_by_its_key(here: Path, settings: dict[str, Any], said: str):
    (line,) = complaints(here, **settings)
    assert line.startswith(f"params.yaml: sweep.{said}")


def test_a_password_does_not_belong_here_and_is_not_printed(here: Path):
    for url in ("postgresql://me:hush@host/database", "postgres://me:hush@host/database"):
        (line,) = complaints(here, storage=url)
        assert line.startswith("params.yaml: sweep.storage: ")
        assert "hush" not in line


def test_a_checkout_whose_sweep_asks_for_more_cores_can_train(here: Path):
    written = yaml.safe_load(here.read_text())
    written["sweep"]["workers"] = 10_000
    here.write_text(yaml.safe_dump(written))
    assert preflight.check()["sweep"].workers == 10_000


@pytest.mark.parametrize(
    "settings",
    [
        {"metric": "log_loss", "direction": "minimize"},
        {"engine": "ray", "workers": 10_000},
        {"storage": "postgresql://user@host/database"},
        {"storage": "postgresql+psycopg://user@host/database"},
        {"timeout_seconds": 0.5},
        {"gpu_type": "H100", "gpus": 0.5},
    ],
)
def test_what_is_right_is_taken(here: Path, settings: dict[str, Any]):
    assert search(here, **settings).model_dump().items() >= settings.items()


def test_all_mistakes_are_told_at_once(here: Path):
    trees = {"max_depth": [3], "subsample": {"low": 0.5, "high": 2}, "leaves": [1, 2]}
    space = {"trees": trees, "network": {"width": {"low": 9, "high": 3}}, "forest": {}}
    lines = complaints(here, space, sampler="best", n_trials=-1, direction="minimize")
    assert {line.split(": ")[1] for line in lines} == {
        "sweep.direction",
        "sweep.sampler",
        "sweep.n_trials",
        "sweep.space.trees.max_depth",
        "sweep.space.trees.subsample.high",
        "sweep.space.trees.leaves",
        "sweep.space.network.width",
        "sweep.space.forest",
    }


def test_several_mistakes_of_one_range_are_told_at_once(here: Path):
    space = {"trees": {"reg_lambda": {"low": 0, "high": 0, "log": True, "step": 0}}}
    (line,) = complaints(here, space)
    for said in ("high must be above low", "above 0 with log", "combined with log", "step must be"):
        assert said in line


def test_a_space_may_be_anything_that_the_learner_takes(here: Path):
    space = {
        "trees": {"max_depth": {"low": 1, "high": 16}, "subsample": [0.1, 1]},
        "network": {"class_weight": ["none", "balanced"], "dropout": {"low": 0, "high": 0.99}},
    }
    sweep = search(here, space)
    assert dimensions(sweep, "trees")["subsample"] == [0.1, 1]
    assert list(dimensions(sweep, "network")) == ["dropout", "class_weight"]
    bounds = dimensions(sweep, "network")["dropout"]
    assert [type(each) for each in (bounds.low, bounds.high)] == [float, float]


@pytest.mark.parametrize("space", [{}, {"trees": {}}, {"trees": {"max_depth": None}}])
def test_a_learner_of_which_nothing_is_searched_is_refused(here: Path, space: dict[str, Any]):
    (line,) = complaints(here, space)
    assert re.search(r"sweep\.space\.trees: at least one .*\(got none\)", line)


def test_a_grid_needs_steps_or_choices_everywhere(here: Path):
    trees = {
        "learning_rate": TWO,
        "reg_lambda": {"low": 1, "high": 9, "log": True},
        "max_depth": {"low": 2, "high": 4},
        "subsample": TWO | {"step": 0.2},
        "colsample_bynode": [0.5, 1],
    }
    lines = complaints(here, {"trees": trees}, sampler="grid", gpu_type="H100")
    assert [line.split(": ")[1] for line in lines] == [
        "sweep.space.trees.learning_rate",
        "sweep.space.trees.reg_lambda",
        "sweep.gpu_type",
    ]


def test_a_grid_has_an_end(here: Path):
    wide = {"low": 0.0, "high": 1e308, "step": 1e-5}
    (line,) = complaints(here, {"trees": {"reg_lambda": wide}}, sampler="grid")
    assert "high must be low and some steps" in line
    many = {name: {"low": 0.0, "high": 0.5, "step": 0.01} for name in ("dropout", "weight_decay")}
    network = many | {"depth": {"low": 1, "high": 64}}
    written = yaml.safe_load(here.read_text())
    here.write_text(yaml.safe_dump(written | {"model": "network"}))
    (line,) = complaints(here, {"network": network}, sampler="grid")
    assert "a grid must have at most 10000 points (got 166464)" in line


def test_cmaes_needs_ranges_everywhere(here: Path):
    network = {"width": [32, 64], "class_weight": ["none", "balanced"], "dropout": TWO}
    written = yaml.safe_load(here.read_text())
    here.write_text(yaml.safe_dump(written | {"model": "network"}))
    lines = complaints(here, {"network": network}, sampler="cmaes")
    assert [line.split(": ")[1] for line in lines] == [
        f"sweep.space.network.{name}" for name in ("width", "class_weight")
    ]


@pytest.mark.parametrize(
    ("dimension", "listed"),
    [
        ({"max_depth": [5, 2]}, [5, 2]),
        ({"max_depth": {"low": 2, "high": 4}}, [2, 3, 4]),
        ({"max_depth": {"low": 2, "high": 6, "step": 2}}, [2, 4, 6]),
        (
            {"subsample": {"low": 0.1, "high": 0.7, "step": 0.1}},
            [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7],
        ),
        ({"subsample": TWO}, None),
        ({"max_depth": {"low": 2, "high": 4, "log": True}}, None),
    ],
)
def test_all_values_are_listed_where_they_are_not_too_many(
    here: Path, dimension: dict[str, Any], listed: list[float] | None
):
    (found,) = dimensions(search(here, {"trees": dimension}), "trees").values()
    told = values(found)
    assert (told if told is None else list(told)) == listed
