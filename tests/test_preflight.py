import shutil
from pathlib import Path

import pytest

from flows import preflight
from tasks.errors import ParamsError

ROOT = Path(__file__).parent.parent


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("dvc.yaml", "params.yaml"):
        shutil.copy(ROOT / name, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "params.yaml"


def change(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def complaints() -> list[str]:
    with pytest.raises(ParamsError) as caught:
        preflight.check()
    return str(caught.value).splitlines()


def test_shipped_parameters_pass(here: Path):
    assert preflight.check()["register"].model_name == "churn-predictor"


def test_every_wrong_key_is_named_at_once(here: Path):
    change(here, "horizon_days: 90", "horizon_days: -1")
    change(here, "max_depth: 3", 'max_depth: "3"')
    change(here, "model: trees", "model: forest")
    change(here, "seed: 1997", "sead: 1997")
    lines = complaints()
    for start in (
        "params.yaml: featurize.horizon_days: Input should be greater than",
        "params.yaml: models.trees.max_depth: Input should be a valid integer (got '3')",
        "params.yaml: model:",
        "params.yaml: seed: Field required",
        "params.yaml: sead: no stage and no flow uses it",
    ):
        assert [line for line in lines if line.startswith(start)], start
    assert len(lines) == 5


@pytest.mark.parametrize("value", ["true", '"50"', "[1]", "null", ".nan"])
def test_a_number_is_a_number(here: Path, value: str):
    change(here, "learning_rate: 0.05", f"learning_rate: {value}")
    assert complaints()[0].startswith("params.yaml: models.trees.learning_rate: ")


@pytest.mark.parametrize("day", ["1998-07-01", '"1998-13-01"', '"yesterday"', "19980701"])
def test_a_date_is_a_date_in_quotes(here: Path, day: str):
    change(here, 'dataset_version: "1998-07-01"', f"dataset_version: {day}")
    assert complaints()[0].startswith("params.yaml: ingest.dataset_version: ")


def test_a_key_that_dvc_yaml_needs_is_missing(here: Path):
    change(here, "pins: >-", "pinned: >-")
    assert "params.yaml: pins: Field required" in complaints()


def test_a_stage_of_another_making_may_have_parameters(here: Path):
    graph = here.with_name("dvc.yaml")
    change(graph, "stages:\n", "stages:\n  mine:\n    cmd: echo\n    params: [mine]\n")
    here.write_text(here.read_text() + "mine: {anything: 1}\n")
    assert preflight.check()


def test_overrides_are_written_and_comments_stay(here: Path):
    preflight.override(["models.trees.max_depth=4", "evaluate.min_auc=0.8"])
    text = here.read_text()
    assert "max_depth: 4" in text
    assert "min_auc: 0.8" in text
    assert "# every random choice is derived from it" in text


@pytest.mark.parametrize(
    "setting",
    ["models.trees.max_depth=0", "models.trees.depth=3", "nonsense", "seed", "=3", "seed=[1"],
)
def test_a_refused_override_leaves_the_file_alone(here: Path, setting: str):
    before = here.read_bytes()
    with pytest.raises(ParamsError, match=r"params\.yaml"):
        preflight.override([setting])
    assert here.read_bytes() == before
