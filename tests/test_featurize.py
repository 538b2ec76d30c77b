import json
from datetime import date
from pathlib import Path

import polars as pl
import pytest

from tasks import featurize
from tasks.encoder import Encoder
from tasks.errors import DataValidationError
from tasks.examples import PARTS, Columns, Split
from tasks.recipes.table import Table

COLUMNS = Columns(keys=("id", "cutoff"), numeric=("x",), categorical=("c",), target="y")


def part(ids: list[int], targets: list[int], cutoff: int = 1) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "id": ids,
            "cutoff": [date(2024, cutoff, 1)] * len(ids),
            "x": [float(row) for row in ids],
            "c": ["a"] * len(ids),
            "y": targets,
        },
        schema={"id": pl.Int64, "cutoff": pl.Date, "x": pl.Float64, "c": pl.String, "y": pl.Int8},
    )


def split(**parts: pl.DataFrame) -> Split:
    good = {
        "train": part([1, 2], [0, 1], cutoff=1),
        "between": part([], []),
        "val": part([1, 2], [0, 1], cutoff=2),
        "test": part([1, 2], [0, 1], cutoff=3),
    }
    return Split({**good, **parts}, COLUMNS, {})


def test_parts_may_share_customers_but_not_customer_cutoffs() -> None:
    featurize.check(split())
    shared = part([2, 3], [0, 1], cutoff=1)
    with pytest.raises(DataValidationError, match=r"got 1 repeated keys, such as .*\(2, datetime"):
        featurize.check(split(test=shared))


def test_a_key_identifies_one_example_of_a_part() -> None:
    with pytest.raises(DataValidationError, match="id, cutoff: must identify one example"):
        featurize.check(split(val=part([1, 1], [0, 1], cutoff=2)))


def test_every_part_but_between_holds_both_classes() -> None:
    with pytest.raises(DataValidationError) as raised:
        featurize.check(split(train=part([], []), test=part([1, 2], [1, 1], cutoff=3)))
    message = str(raised.value)
    assert "train: must hold examples of both classes (got 0 with y = 1, 0 with 0)" in message
    assert "test: must hold examples of both classes (got 2 with y = 1, 0 with 0)" in message
    assert "between: must" not in message


def snapshot(folder: Path, rows: pl.DataFrame) -> None:
    (folder / "ingest").mkdir()
    rows.write_parquet(folder / "ingest/snapshot.parquet")
    (folder / "ingest/manifest.json").write_text(json.dumps({"dataset_version": "2024-07-01"}))


def recipe() -> Table:
    return Table.model_validate(
        {
            "recipe": "table",
            "columns": {"key": "id", "target": "y", "positive": 1},
            "parts": {
                "by": "time",
                "column": "id",
                "cuts": {"val": 10, "test": 14},
            },
        }
    )


def test_the_encoder_learns_from_the_training_part_alone(tmp_path: Path) -> None:
    rows = pl.DataFrame(
        {
            "id": range(20),
            "x": [1.0] * 10 + [1000.0] * 10,
            "c": ["a"] * 10 + ["later"] * 10,
            "y": [0, 1] * 10,
        }
    )
    snapshot(tmp_path, rows)
    folders = (tmp_path / name for name in ("ingest", "validate", "featurize"))
    featurize.run(*folders, featurize=recipe(), seed=1)
    encoder = Encoder.from_json((tmp_path / "featurize/encoder.json").read_text())
    assert encoder.numbers["x"].mean == 1
    assert encoder.categories == {"c": ("a",)}


def test_the_files_are_those_of_the_contract(tmp_path: Path) -> None:
    rows = pl.DataFrame({"id": range(20), "x": range(20), "c": ["a", None] * 10, "y": [0, 1] * 10})
    snapshot(tmp_path, rows)
    folders = (tmp_path / name for name in ("ingest", "validate", "featurize"))
    featurize.run(*folders, featurize=recipe(), seed=1)
    output = tmp_path / "featurize"
    written = sorted(path.name for path in output.iterdir())
    assert written == sorted(["encoder.json", "examples.json", *(f"{p}.parquet" for p in PARTS)])
    examples = json.loads((output / "examples.json").read_text())
    assert examples["columns"] == {
        "keys": ["id"],
        "numeric": ["x"],
        "categorical": ["c"],
        "target": "y",
        "slice": None,
    }
    assert examples["rule"]["cuts"] == {"val": 10, "test": 14}
    assert examples["parts"] == {
        "train": {"rows": 10, "positives": 5},
        "between": {"rows": 0, "positives": 0},
        "val": {"rows": 4, "positives": 2},
        "test": {"rows": 6, "positives": 3},
    }
    test = pl.read_parquet(output / "test.parquet")
    assert test["id"].to_list() == [14, 15, 16, 17, 18, 19]
    assert test.schema["y"] == pl.Int8
