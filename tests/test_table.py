"""The recipe `table`, and the way from a table to a model with nothing written but params."""

import json
from datetime import date
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import polars as pl
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from tasks import featurize, files, params, train
from tasks.encoder import Encoder
from tasks.errors import DataValidationError, ParamsError
from tasks.examples import PARTS, Split
from tasks.models import load
from tasks.recipes import Recipe
from tasks.recipes.table import Table

RATIOS = {"train": 0.6, "val": 0.2, "test": 0.2}
STRATIFIED = {"by": "stratified", "ratios": RATIOS}
COLUMNS = {"key": "id", "target": "bought", "positive": "yes", "ignored": "seen_at"}
VERSION = date(2024, 7, 1)


def visits(rows: int = 60) -> pl.DataFrame:
    """Visits to a shop, with nulls, NaN and infinity: who stays long buys."""
    numbers = np.random.default_rng(7).normal(size=rows)
    return pl.DataFrame(
        {
            "id": range(rows),
            "minutes": [None if row % 11 == 0 else number for row, number in enumerate(numbers)],
            "pages": [[1.0, 2.0, float("nan"), float("inf")][row % 4] for row in range(rows)],
            "member": [[True, False, None][row % 3] for row in range(rows)],
            "town": [["Oslo", "Bergen", None, "Voss", "Moss"][row % 5] for row in range(rows)],
            "seen_at": [date(2024, 1, 1 + row % 20) for row in range(rows)],
            "bought": ["yes" if number > 0.2 else "no" for number in numbers],
        }
    )


def split(rows: pl.DataFrame, *, seed: int = 1, **section: object) -> Split:
    recipe = Table.model_validate({"recipe": "table", "parts": STRATIFIED, **section})
    return recipe.split(rows, dataset_version=VERSION, seed=seed)


def whole(parts: Split) -> pl.DataFrame:
    return pl.concat(parts.parts.values()).sort(parts.columns.keys)


def test_features_are_inferred_from_types() -> None:
    columns = split(visits(), columns=COLUMNS).columns
    assert columns.keys == ("id",)
    assert columns.numeric == ("minutes", "pages", "member")
    assert columns.categorical == ("town",)


def test_named_columns_alone_are_kept() -> None:
    parts = split(visits(), columns={**COLUMNS, "ignored": [], "numeric": ["pages"]})
    assert whole(parts).columns == ["id", "pages", "bought"]


def test_examples_are_raw_with_null_where_a_number_is_not_finite() -> None:
    examples = whole(split(visits(), columns=COLUMNS))
    assert examples["pages"].to_list()[:4] == [1, 2, None, None]
    assert examples["member"].to_list()[:3] == [1, 0, None]
    assert examples["town"].to_list()[:3] == ["Oslo", "Bergen", None]


def test_the_target_is_1_where_positive() -> None:
    rows = visits()
    for positive, ones in (("yes", "yes"), ("no", "no")):
        examples = whole(split(rows, columns={**COLUMNS, "positive": positive}))
        assert examples["bought"].dtype == pl.Int8
        assert examples["bought"].to_list() == [int(value == ones) for value in rows["bought"]]


@pytest.mark.parametrize(
    ("dtype", "positive"), [(pl.Boolean, True), (pl.Int64, 1), (pl.Float64, 1), (pl.Boolean, 1)]
)
def test_the_target_may_be_of_any_plain_type(dtype: type[pl.DataType], positive: object) -> None:
    rows = visits().with_columns((pl.col("bought") == "yes").cast(dtype))
    examples = whole(split(rows, columns={**COLUMNS, "positive": positive}))
    assert examples["bought"].to_list() == rows["bought"].cast(pl.Int8).to_list()


def test_rows_without_target_are_left_out_and_counted() -> None:
    rows = visits().with_columns(pl.when(pl.col("id") >= 5).then("bought").alias("bought"))
    parts = split(rows, columns=COLUMNS)
    assert whole(parts)["id"].to_list() == list(range(5, 60))
    assert parts.rule["rows_without_target"] == 5


def test_derived_columns_may_build_on_each_other_and_play_any_role() -> None:
    derived = {"long": "minutes > 1", "size": "pages * 2 + 1", "key": "'k' || CAST(id AS VARCHAR)"}
    rows = visits().drop_nulls("minutes")
    columns = {"key": "key", "target": "long", "positive": True, "numeric": ["size"]}
    examples = whole(split(rows, columns=columns, derived=derived))
    assert (
        examples.sort("key")["long"].to_list()
        == (rows.sort(pl.format("k{}", "id"))["minutes"] > 1).cast(pl.Int8).to_list()
    )


@pytest.mark.parametrize("key", ["id", []])
@given(st.randoms(use_true_random=False))
def test_the_order_of_rows_does_not_matter(key: str | list[str], random: Random) -> None:
    rows = visits()
    order = list(range(len(rows)))
    random.shuffle(order)
    section: dict[str, Any] = {"columns": {**COLUMNS, "key": key}}
    one, other = split(rows, **section), split(rows[order], **section)
    assert all(one.parts[part].equals(other.parts[part]) for part in PARTS)


def test_a_table_without_a_key_is_numbered() -> None:
    parts = split(visits().drop("id"), columns={**COLUMNS, "key": []})
    assert parts.columns.keys == ("row",)
    assert whole(parts)["row"].to_list() == list(range(60))


def test_the_column_that_parts_are_made_by_is_no_feature() -> None:
    columns = {**COLUMNS, "ignored": []}
    parts = split(
        visits(), columns=columns, parts={"by": "time", "column": "seen_at", "ratios": RATIOS}
    )
    assert "seen_at" not in parts.columns.features
    assert parts.rule["first_moments"] == {
        "train": "2024-01-01",
        "val": "2024-01-13",
        "test": "2024-01-17",
    }
    rows = visits().drop_nulls("town")
    parts = split(rows, columns=COLUMNS, parts={"by": "group", "column": "town", "ratios": RATIOS})
    assert "town" not in parts.columns.features


def test_all_wrong_columns_are_named_together() -> None:
    section: dict[str, Any] = {
        "columns": {
            "key": ["id", "minutes", "nokey"],
            "target": "bought",
            "positive": True,
            "numeric": ["pages", "town", "nonumber"],
            "categorical": ["seen_at", "noname"],
            "ignored": ["nothing"],
            "slice": "pages",
        },
        "derived": {"member": "1", "far": "kilometres * 2", "mean": "avg(pages)"},
        "parts": {"by": "group", "column": "nogroup", "ratios": RATIOS},
    }
    with pytest.raises(ParamsError) as raised:
        split(visits(), **section)
    lines = [line.removeprefix("params.yaml: featurize.") for line in str(raised.value).split("\n")]
    for where, what in (
        ("derived.member", "must be a new name"),
        ("derived.far", '"kilometres"'),
        ("derived.mean", "from its own row alone"),
        ("columns.key", "got nokey; it has id, minutes"),
        ("columns.numeric", "got nonumber;"),
        ("columns.categorical", "got noname;"),
        ("columns.ignored", "got nothing;"),
        ("columns.key", "got minutes of type Float64"),
        ("columns.numeric", "got town of type String"),
        ("columns.categorical", "got seen_at of type Date"),
        ("columns.slice", "'pages'"),
        ("columns.positive", "one of bought's values, no, yes (got True; put a word"),
        ("parts.column", "'nogroup'"),
    ):
        assert any(line.startswith(where) and what in line for line in lines), (where, what)
    assert len(lines) == 14, "and the next command"


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"target": "town"}, r"target: must hold two values \(got 4 in town: Bergen, Moss"),
        ({"target": "seen_at", "ignored": []}, r"target: must hold strings.*\(got Date\)"),
        ({"positive": "Yes"}, r"positive: must be one of bought's values, no, yes \(got 'Yes'\)"),
        ({"ignored": []}, r"ignored: must name .* \(got seen_at of type Date\)"),
        ({"numeric": [], "ignored": []}, "numeric: must name at least one feature"),
    ],
)
def test_roles_must_suit_the_table(columns: dict[str, object], message: str) -> None:
    with pytest.raises(ParamsError, match=message):
        split(visits(), columns={**COLUMNS, **columns})


@pytest.mark.parametrize(
    "expression",
    ["sum(pages)", "row_number() over (order by id)", "minutes - avg(minutes) over ()", "count(*)"],
)
def test_a_derived_column_cannot_look_at_other_rows(expression: str) -> None:
    with pytest.raises(ParamsError, match=r"derived\.other: must be"):
        split(visits(), columns=COLUMNS, derived={"other": expression})


def test_cuts_must_be_of_the_kind_of_their_column() -> None:
    parts = {"by": "time", "column": "seen_at", "cuts": {"val": 3, "test": 5}}
    with pytest.raises(ParamsError, match=r"parts\.cuts: must be dates, as column seen_at is"):
        split(visits(), columns=COLUMNS, parts=parts)


def test_values_that_must_be_there_are_asked_for_together() -> None:
    rows = visits().with_columns(id=pl.when(pl.col("id") != 3).then(pl.col("id") // 2))
    parts = {"by": "group", "column": "town", "ratios": RATIOS}
    with pytest.raises(DataValidationError) as raised:
        split(rows, columns=COLUMNS, parts=parts)
    message = str(raised.value)
    assert "column id: must hold no null (got 1)" in message
    assert "column town: must hold no null (got 12)" in message
    assert "key id: must identify one row (got 29 keys more than once: (0,), (2,)" in message


def test_params_name_wrong_keys_before_any_data_is_read() -> None:
    section = {
        "recipe": "table",
        "columns": {**COLUMNS, "numeric": ["id", "bought"]},
        "derived": {"half": "minutes /"},
        "parts": {"by": "random", "ratios": {**RATIOS, "test": 0.5}},
        "seed": 3,
    }
    _, errors = params.check({"featurize": section}, {"featurize": Recipe})
    text = "\n".join(errors)
    for words in (
        "a column must have one role: id is key and numeric, bought is target and numeric",
        "derived.half: must be an SQL expression: unable to parse",
        "train, val and test must add up to 1",
        "seed: Extra inputs are not permitted",
    ):
        assert words in text
    assert len(errors) == 4


MODELS = files.read_yaml(Path(__file__).parent.parent / "params.yaml")["models"]
MODELS["trees"] |= {"learning_rate": 0.1, "min_child_weight": 1, "max_rounds": 60}
MODELS["network"] |= {"batch_size": 32, "max_epochs": 20}


def trained(
    folder: Path, rows: pl.DataFrame, section: dict[str, object], model: str = "trees"
) -> float:
    """Run both stages on a table, as their command lines would; give the accuracy on test."""
    values = {
        "seed": 1997,
        "featurize": {"recipe": "table", **section},
        "model": model,
        "models": MODELS,
        "train": {"refit": True, "checkpoint_seconds": 60},
    }
    (folder / "params.yaml").write_text(yaml.safe_dump(values))
    (folder / "ingest").mkdir()
    rows.write_parquet(folder / "ingest/snapshot.parquet")
    (folder / "ingest/manifest.json").write_text(json.dumps({"dataset_version": str(VERSION)}))
    for stage, needs in ((featurize, ("ingest", "validate")), (train, ("featurize",))):
        paths = (folder / name for name in (*needs, stage.__name__.removeprefix("tasks.")))
        stage.run(*paths, **params.read(params.wanted_by(stage.run), folder / "params.yaml"))
    encoder = Encoder.from_json((folder / "featurize/encoder.json").read_text())
    test = encoder.encode(pl.read_parquet(folder / "featurize/test.parquet"))
    return float(np.mean((load(folder / "train").predict(test) > 0.5) == test.target))


@pytest.mark.parametrize("model", MODELS)
def test_a_table_of_scikit_learn_becomes_a_model_with_no_python_written(
    tmp_path: Path, model: str
) -> None:
    from sklearn.datasets import load_breast_cancer

    frame = load_breast_cancer(as_frame=True).frame
    rows = pl.from_pandas(frame).with_row_index("patient")
    section = {
        "columns": {"key": "patient", "target": "target", "positive": 0},
        "derived": {"mean compactness of area": '"mean area" / ("mean radius" * "mean radius")'},
        "parts": {"by": "stratified", "ratios": {"train": 0.6, "val": 0.2, "test": 0.2}},
    }
    assert trained(tmp_path, rows, section, model) > 0.92
    examples = json.loads((tmp_path / "featurize/examples.json").read_text())
    assert len(examples["columns"]["numeric"]) == 31
    assert examples["parts"]["test"] == {"rows": 113, "positives": 42}


def test_a_table_with_names_and_nulls_becomes_a_model(tmp_path: Path) -> None:
    section = {"columns": {**COLUMNS, "slice": "town"}, "parts": STRATIFIED}
    assert trained(tmp_path, visits(300), section) > 0.9


@pytest.mark.parametrize(
    "parts",
    [
        STRATIFIED,
        {"by": "time", "column": "seen_at", "cuts": {"val": "2024-01-12", "test": "2024-01-16"}},
        {
            "by": "time",
            "column": "seen_at",
            "cuts": {"val": "2024-01-12T08:00:00", "test": "2024-01-16"},
        },
        {"by": "time", "column": "id", "cuts": {"val": 40, "test": 50}},
    ],
)
@pytest.mark.parametrize("ignored", ["seen_at", ["seen_at"], []])
def test_section_as_yaml_gives_it(parts: dict[str, Any], ignored: Any) -> None:
    columns = {**COLUMNS, "ignored": ignored, "numeric": ["minutes"]}
    section = {"recipe": "table", "columns": columns, "parts": parts}
    valid, errors = params.check({"featurize": section}, {"featurize": Recipe})
    assert not errors
    assert valid["featurize"].columns.ignored == (("seen_at",) if ignored else ())
    shared = valid["featurize"].split(visits(), dataset_version=VERSION, seed=1)
    assert [len(shared.parts[part]) > 0 for part in PARTS] == [True, False, True, True]


def test_a_list_of_what_is_no_name() -> None:
    section = {"recipe": "table", "columns": {**COLUMNS, "ignored": [1]}, "parts": STRATIFIED}
    _, (error,) = params.check({"featurize": section}, {"featurize": Recipe})
    assert error == "featurize.columns.ignored.0: Input should be a valid string (got 1)"


@pytest.mark.parametrize(
    ("derived", "ignored", "told"),
    [
        ({"hint": "CASE WHEN sick = 'yes' THEN 1 ELSE 0 END"}, [], "hint"),
        ({"one": "sick", "two": "one"}, [], "one, two"),
        ({"sick": "dose > 3"}, [], "dose"),
        ({"sick": "dose > 3", "twice": "dose * 2"}, ["dose"], "twice"),
        ({"sick": "dose > 3"}, ["dose"], ""),
        ({"twice": "dose * 2"}, [], ""),
    ],
)
def test_no_feature_tells_the_target(derived: dict, ignored: list, told: str):
    given = {
        "recipe": "table",
        "columns": {"key": "id", "target": "sick", "positive": "yes", "ignored": ignored},
        "derived": derived,
        "parts": {"by": "random", "ratios": {"train": 0.6, "val": 0.2, "test": 0.2}},
    }
    _, errors = params.check({"featurize": given}, {"featurize": Table})
    if told:
        assert f"no feature may tell the target sick (got {told})" in errors[0]
    else:
        assert errors == []


def features(rows: pl.DataFrame, **section: object) -> pl.DataFrame:
    recipe = Table.model_validate({"recipe": "table", "parts": STRATIFIED, **section})
    return recipe.features(rows, VERSION)


DERIVED = {"size": "pages * 2 + 1", "far": "town <> 'Oslo'"}


@pytest.mark.parametrize("given", [[], ["bought"]])
def test_rows_to_be_scored_are_described_as_those_learned_from(given: list[str]) -> None:
    rows = visits()
    learned = whole(split(rows, columns=COLUMNS, derived=DERIVED)).drop("bought")
    shuffled = rows.drop({"bought"} - set(given)).sample(fraction=1.0, shuffle=True, seed=3)
    assert features(shuffled, columns=COLUMNS, derived=DERIVED).equals(learned)


def test_rows_to_be_scored_may_have_any_target() -> None:
    rows = visits().with_columns(bought=pl.lit("who knows"))
    assert features(rows, columns=COLUMNS).equals(features(visits(), columns=COLUMNS))


def test_rows_to_be_scored_may_lack_what_the_target_is_made_of_and_what_is_made_of_it() -> None:
    columns = {**COLUMNS, "target": "long", "positive": True}
    columns["ignored"] = ["seen_at", "bought", "minutes", "twice"]
    derived = {"long": "minutes > 1", "twice": "long OR minutes > 2", **DERIVED}
    recipe = Table.model_validate(
        {"recipe": "table", "parts": STRATIFIED, "columns": columns, "derived": derived}
    )
    assert recipe.outcome == {"long", "minutes", "twice"}
    rows = visits().drop("minutes", "seen_at")
    made = recipe.features(rows, VERSION)
    assert made.columns == ["id", "pages", "member", "size", "far", "town"]
    assert len(made) == len(rows)


def test_whoever_is_scored_has_a_key_of_their_own() -> None:
    rows = visits().with_columns(id=pl.when(pl.col("id") > 1).then("id").otherwise(5))
    with pytest.raises(DataValidationError, match=r"key id: must identify one row \(got 1 keys"):
        features(rows, columns=COLUMNS)
    rows = visits().with_columns(id=pl.when(pl.col("id") > 0).then("id"))
    with pytest.raises(DataValidationError, match=r"column id: must hold no null \(got 1\)"):
        features(rows, columns=COLUMNS)


def test_a_feature_that_is_gone_is_named() -> None:
    with pytest.raises(ParamsError, match=r"featurize\.derived\.size: must be SQL over columns"):
        features(visits().drop("pages"), columns=COLUMNS, derived=DERIVED)


def test_numbered_rows_are_nobodys() -> None:
    section = {"recipe": "table", "parts": STRATIFIED, "columns": {**COLUMNS, "key": []}}
    recipe = Table.model_validate(section)
    assert recipe.entities == ()
    assert recipe.features(visits(), VERSION)["row"].to_list() == list(range(60))
