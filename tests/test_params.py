from pathlib import Path

import pytest
from pydantic import Field

from tasks import params
from tasks.errors import ParamsError


class Trees(params.Section):
    max_depth: int = Field(ge=1)
    subsample: float = Field(gt=0, le=1)


WANTED = {"trees": Trees, "seed": int}


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "params.yaml"
    path.write_text(text)
    return path


def test_sections_come_back_typed(tmp_path: Path):
    path = written(tmp_path, "seed: 1\ntrees: {max_depth: 3, subsample: 0.5}\nother: 1\n")
    assert params.read(WANTED, path) == {"seed": 1, "trees": Trees(max_depth=3, subsample=0.5)}


def test_all_wrong_keys_are_named_at_once(tmp_path: Path):
    path = written(tmp_path, "trees: {max_depth: no, subsample: 1.2, depth: 3}\n")
    with pytest.raises(ParamsError) as caught:
        params.read(WANTED, path)
    lines = str(caught.value).splitlines()
    assert len(lines) == 4
    subsample = "trees.subsample: Input should be less than or equal to 1 (got 1.2)"
    assert f"{path}: {subsample}" in lines
    assert any("trees.depth: Extra inputs are not permitted" in line for line in lines)
    assert any("seed: Field required" in line for line in lines)


@pytest.mark.parametrize("value", [".nan", ".inf"])
def test_numbers_are_finite(tmp_path: Path, value: str):
    path = written(tmp_path, f"seed: 1\ntrees: {{max_depth: 3, subsample: {value}}}\n")
    with pytest.raises(ParamsError, match=r"trees\.subsample"):
        params.read(WANTED, path)


def test_sections_are_frozen():
    with pytest.raises(ValueError, match="frozen"):
        Trees(max_depth=3, subsample=0.5).max_depth = 4  # type: ignore[misc]


def test_a_date_needs_quotes(tmp_path: Path):
    path = written(tmp_path, "ingest: {dataset_version: 2024-01-01}\n")
    with pytest.raises(ParamsError, match=r'dataset_version: a date must be in quotes: "2024'):
        params.load(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [("- a\n", "mapping of sections"), ("a: [\n", "must be YAML"), ("", "mapping of sections")],
)
def test_files_that_are_not_params(tmp_path: Path, text: str, message: str):
    with pytest.raises(ParamsError, match=message):
        params.load(written(tmp_path, text))


def test_missing_file(tmp_path: Path):
    with pytest.raises(ParamsError, match="repository's root"):
        params.load(tmp_path / "params.yaml")
