"""Who is scored, what of the data must be as it was, and that scores are those of evaluation."""

import sqlite3
from contextlib import closing
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from left_behind import COLUMNS, MLFLOW_WARNS, examples
from pydantic import ValidationError

from tasks import events, feature_code, files, scoring
from tasks.champion import Champion
from tasks.encoder import Encoder
from tasks.errors import DataValidationError, ParamsError, StageError, VerbatimError
from tasks.registry import Version
from tasks.scoring import Score

pytestmark = MLFLOW_WARNS
DAY = date(2024, 3, 1)
PEOPLE = examples(50, 3)  # the test part
RECIPE = {
    "recipe": "table",
    "columns": {"key": "customer_id", "target": "churned", "positive": 1, "slice": "country"},
    "parts": {"by": "random", "ratios": {"train": 0.6, "val": 0.2, "test": 0.2}},
}
SCHEMA = {name: str(kind) for name, kind in PEOPLE.schema.items()}


def champion(run_id: str = "gone", **recipe: Any) -> Champion:
    """The champion as `tasks.champion` reads it, of a run whose test part were `PEOPLE`."""
    return Champion(
        version=Version(3, run_id, "key", "2024-03-01", passed=True, tags={"git_commit": "abc"}),
        settings={"featurize": RECIPE | recipe},
        lock={"schema": "2.0", "stages": {}},
        manifest={"dataset_version": "2024-03-01", "columns": SCHEMA},
        encoder=Encoder.fit(PEOPLE, COLUMNS),
        columns=COLUMNS,
        metrics={},
        predictions=PEOPLE.select("customer_id", "churned").with_columns(score=0.5),
    )


@pytest.fixture
def crowned(here: Path) -> Champion:
    """The champion whose model was really logged, by a run that lies in the store."""
    with closing(sqlite3.connect(here / "mlflow.db")) as database:
        ((run_id,),) = database.execute("SELECT run_uuid FROM runs").fetchall()
    predictions = files.read_parquet(here / "data/evaluate/predictions.parquet")
    return replace(champion(run_id), predictions=predictions)


def held(folder: Path, rows: pl.DataFrame = PEOPLE, time_column: str | None = None) -> events.Held:
    files.write_parquet(folder / "lake/rows.parquet", rows)
    return events.read(str(folder / "lake"), time_column)


def current(lake: events.Held, as_of: date = DAY, by: Champion | None = None) -> pl.DataFrame:
    return scoring.current(lake, as_of, by or champion(), max_silence_days=31)


def test_scores_are_those_of_evaluation_digit_by_digit(crowned: Champion, tmp_path: Path) -> None:
    rows = current(held(tmp_path, PEOPLE.drop("churned").reverse()), by=crowned)
    scores = scoring.score(crowned, rows, DAY, "churn-predictor", batch_rows=7)
    assert scores.columns == [
        "customer_id", "score", "model_name", "model_version", "lineage_key"
    ]  # fmt: skip
    assert scores.select("customer_id", "score").equals(
        crowned.predictions.select("customer_id", "score")
    )
    by = scores.select("model_name", "model_version", "lineage_key").unique().rows()
    assert by == [("churn-predictor", 3, "key")]


def test_what_is_known_of_a_day_is_what_was_before_it(tmp_path: Path) -> None:
    rows = PEOPLE.with_columns(
        day=pl.Series([date(2024, 2, 27), date(2024, 2, 29), DAY, date(2024, 3, 5), None] * 10)
    )
    by = replace(champion(), manifest={"columns": SCHEMA | {"day": "Date"}})
    known = current(held(tmp_path, rows, "day"), by=by)
    assert known["day"].unique().sort().to_list() == [None, date(2024, 2, 27), date(2024, 2, 29)]
    assert scoring.last_event(known, "day") == "2024-02-29"
    assert scoring.last_event(known, None) is None


@pytest.mark.parametrize(
    ("as_of", "got"), [(date(2024, 4, 1), "2024-02-29"), (date(2024, 2, 1), "no day")]
)
def test_a_day_whose_events_have_not_arrived(tmp_path: Path, as_of: date, got: str) -> None:
    lake = held(tmp_path, PEOPLE.with_columns(day=date(2024, 2, 29)), "day")
    with pytest.raises(DataValidationError, match=rf"days .* before {as_of} \(got .* on {got}\)"):
        current(lake, as_of)


def test_a_table_without_time_is_known_on_any_day(tmp_path: Path) -> None:
    assert len(current(held(tmp_path), date(2030, 1, 1))) == 50


def test_every_column_that_differs_is_named(tmp_path: Path) -> None:
    changed = PEOPLE.rename({"visits": "calls"}).cast({"days": pl.String}).drop("share")
    with pytest.raises(DataValidationError) as caught:
        current(held(tmp_path, changed.with_columns(more=1)))
    lines = str(caught.value).splitlines()
    assert [line.partition("lake: ")[2] for line in lines[:-1]] == [
        "column 'visits' must be Int64 (got none)",
        "column 'days' must be Int64 (got String)",
        "column 'share' must be Float64 (got none)",
        "column 'calls' must be left out (got Int64)",
        "column 'more' must be left out (got Int32)",
    ]
    assert "version 3 has learned from" in lines[-1]


@pytest.mark.parametrize("target", [None, "later"])
def test_the_target_may_be_absent_and_of_any_type(tmp_path: Path, target: str | None) -> None:
    rows = PEOPLE.drop("churned")
    if target:
        rows = rows.with_columns(churned=pl.lit(target))
    assert len(current(held(tmp_path, rows))) == 50


@pytest.mark.parametrize(("key", "got"), [([], "no key"), (["visits", "score"], "visits, score")])
def test_without_a_key_that_tells_whose_it_is_nobody_is_scored(key: list[str], got: str) -> None:
    by = champion(columns={**RECIPE["columns"], "key": key})
    with pytest.raises(ParamsError, match=rf"featurize: must name .* \(got {got}, in the param"):
        scoring.score(by, PEOPLE, DAY, "m", batch_rows=9)


@pytest.mark.parametrize("wrong", [np.nan, -0.1, 1.5])
def test_a_score_is_a_probability(wrong: float) -> None:
    found = np.array([0.5, wrong])
    with pytest.raises(VerbatimError, match="version 3: scores: must be between 0 and 1"):
        scoring.table(PEOPLE.select("customer_id").head(2), found, champion().version, "m")


def test_the_manifest_says_what_was_scored_and_by_which_model() -> None:
    scores = pl.DataFrame({"score": [0.25, 0.5]})
    assert scoring.facts(champion("run"), "m", DAY, "2024-02-29", scores) == {
        "as_of": "2024-03-01",
        "last_event": "2024-02-29",
        "rows": 2,
        "mean_score": 0.375,
        "model_name": "m",
        "model_version": 3,
        "lineage_key": "key",
        "run_id": "run",
        "dataset_version": "2024-03-01",
    }


@pytest.mark.parametrize("wrong", [{"destination": " "}, {"batch_rows": 0}, {"batches": 1}])
def test_the_section(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Score.model_validate({"destination": "data/scores", "batch_rows": 1, **wrong})


def test_the_code_that_the_champion_has_learned_with_agrees(
    crowned: Champion, tmp_path: Path
) -> None:
    feature_code.check(crowned, held(tmp_path), batch_rows=20)


def test_other_features_are_noticed_before_anything_is_written(
    crowned: Champion, tmp_path: Path
) -> None:
    """Whoever has no row any more is counted, too: here two of fifty."""
    changed = PEOPLE.with_columns(visits=9 - pl.col("visits")).head(48)
    with pytest.raises(StageError) as caught:
        feature_code.check(crowned, held(tmp_path, changed), batch_rows=20)
    message = str(caught.value)
    assert "version 3: its test rows, made by the code of this checkout, must get" in message
    assert "of 50 rows with another score, by up to 0." in message
    assert "and 2 rows that are not in the data" in message
    assert "events before 2024-03-01" in message
    assert "git checkout abc" in message


def test_a_store_that_forgot_all(tmp_path: Path) -> None:
    lake = held(tmp_path, PEOPLE.with_columns(day=DAY), "day")
    with pytest.raises(StageError, match=r"got 0 of 50 rows .*, and 50 rows that are not"):
        feature_code.check(champion(), lake, batch_rows=20)


def predictions(*scores: float) -> pl.DataFrame:
    return pl.DataFrame({"id": range(len(scores)), "score": scores})


def test_scores_agree_to_a_millionth() -> None:
    again = pl.DataFrame({"id": [1, 0], "again": [0.25, 0.5 + 9e-7]})
    assert feature_code.disagreement(predictions(0.5, 0.25), again, ("id",)) is None
    again = pl.DataFrame({"id": [1, 0], "again": [0.25, 0.5 + 2e-6]})
    fault = feature_code.disagreement(predictions(0.5, 0.25), again, ("id",))
    assert fault is not None
    assert fault.startswith("1 of 2 rows with another score, by up to 0.000002, and 0 rows")


def test_a_log_is_made_anew_at_the_cutoffs_of_its_test_rows() -> None:
    log = pl.DataFrame(
        {
            "who": ["ann", "ben", "ann", "eve"],
            "day": [date(2024, 1, 1), date(2024, 1, 9), date(2024, 1, 20), date(2024, 1, 30)],
            "cents": [1, 2, 3, 4],
            "pieces": [1, 1, 1, 1],
        }
    )
    recipe = {"recipe": "transactions", "entity": "who", "time": "day", "amount": "cents"}
    recipe |= {"quantity": "pieces", "horizon_days": 9, "windows_days": [30], "fading_days": 30}
    recipe |= {"first_cutoff": "2024-01-02", "cutoff_every": "1w"}
    by = replace(champion(), settings={"featurize": recipe})
    cutoffs = [date(2024, 1, 10), date(2024, 1, 10), date(2024, 1, 25)]
    keys = pl.DataFrame({"who": ["ann", "ben", "ann"], "cutoff": cutoffs})
    made = feature_code.remade(by, log, keys)
    assert made.select(keys.columns).rows() == keys.rows()
    assert made["visits"].to_list() == [1, 1, 2]


def locked(**deps: str) -> dict[str, Any]:
    names = {
        "recipes": "tasks/recipes",
        "lake": "tasks/lake.py",
        "environment": "requirements.lock",
    }
    entries = [{"path": names.get(name, name), "md5": md5} for name, md5 in deps.items()]
    return {"stages": {"ingest": {"deps": entries[:1]}, "featurize": {"deps": entries[1:]}}}


def test_code_is_the_same_if_all_its_hashes_are() -> None:
    lock = locked(lake="1", recipes="2", environment="3", data="4")
    code = {"tasks/lake.py": "1", "tasks/recipes": "2", "requirements.lock": "3", "more": "9"}
    assert feature_code.is_same(lock, code)
    for path in ("tasks/lake.py", "tasks/recipes", "requirements.lock"):
        assert not feature_code.is_same(lock, code | {path: "0"})
        assert not feature_code.is_same(lock, {p: md5 for p, md5 in code.items() if p != path})


def test_code_that_is_unknown_is_not_the_same() -> None:
    assert not feature_code.is_same({"stages": {}}, {"tasks/recipes": "2"})
