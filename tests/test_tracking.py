import multiprocessing
import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from left_behind import ASKED, MLFLOW_WARNS, ROOT

from tasks import files, lineage, store, tracking
from tasks.errors import StageError
from tasks.past_model import PastModel

pytestmark = MLFLOW_WARNS


def test_finds_what_was_recorded_with_and_without_mlflow(here: Path) -> None:
    key = lineage.read().key
    record = tracking.find(key, **ASKED)
    assert record is not None
    assert (record.passed, record.version) == (True, 1)
    assert tracking._find(key, **ASKED) == record
    assert (here / "mlartifacts" / record.run_id / "artifacts" / "model_card.md").exists()


@pytest.mark.parametrize("find", [tracking.find, tracking._find])
@pytest.mark.parametrize(
    "change",
    [
        "UPDATE runs SET status = 'FAILED'",
        "UPDATE runs SET lifecycle_stage = 'deleted'",
        "UPDATE experiments SET lifecycle_stage = 'deleted'",
        "UPDATE experiments SET name = name || ' of old'",
        "UPDATE tags SET value = 'another' WHERE key = 'lineage_key'",
        "UPDATE runs SET artifact_uri = '/nowhere/mlartifacts'",
    ],
)
def test_finds_nothing_else(here: Path, find: Any, change: str) -> None:
    store.follow_move(here / "mlflow.db")
    with sqlite3.connect(here / "mlflow.db") as database:
        database.execute(change)
    database.close()
    assert find(lineage.read().key, **ASKED) is None


def test_without_a_version_the_record_is_not_complete(here: Path) -> None:
    key = lineage.read().key
    assert tracking.recorded(key, **ASKED)
    assert not tracking.recorded(key, experiment=ASKED["experiment"], model_name="another")
    with sqlite3.connect(here / "mlflow.db") as database:
        database.execute("UPDATE tags SET value = 'failed' WHERE key = 'gate'")
        database.execute("UPDATE model_versions SET current_stage = 'Deleted_Internal'")
    database.close()
    assert tracking.recorded(key, **ASKED)


def test_no_store_holds_nothing_and_none_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")
    assert not tracking.recorded("0" * 64, **ASKED)
    assert list(tmp_path.iterdir()) == []


def test_question_to_a_local_store_does_not_import_mlflow(here: Path) -> None:
    code = (
        "import sys; from tasks import lineage, tracking;"
        f"print(tracking.recorded(lineage.read().key, **{ASKED}), 'mlflow' in sys.modules)"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code],
        cwd=here,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert answer.stdout.split() == ["True", "False"]


def test_deleted_experiment_is_named(here: Path) -> None:
    with sqlite3.connect(here / "mlflow.db") as database:
        database.execute("UPDATE experiments SET lifecycle_stage = 'deleted'")
    database.close()
    with (
        pytest.raises(StageError, match="mlflow experiments restore --experiment-id 1"),
        tracking.recording("name", experiment=ASKED["experiment"], key="0", tags={}),
    ):
        pass


def test_past_model_scores_as_it_was_evaluated(here: Path) -> None:
    record = tracking.find(lineage.read().key, **ASKED)
    assert record is not None
    shutil.rmtree(here / "data" / "train")  # it must come from the store
    frame = files.read_parquet(here / "data" / "featurize" / "test.parquet")
    evaluated = files.read_parquet(here / "data" / "evaluate" / "predictions.parquet")["score"]
    assert PastModel(record.run_id).predict(frame).tolist() == evaluated.to_list()


def test_unknown_past_model_is_named(here: Path) -> None:
    frame = files.read_parquet(here / "data" / "featurize" / "test.parquet")
    with pytest.raises(StageError, match=f"run '{'0' * 32}' must hold a model"):
        PastModel("0" * 32).predict(frame)


def test_one_recorder_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    context = multiprocessing.get_context("spawn")
    entered = context.Event()
    with tracking.alone():
        other = context.Process(target=_enter, args=(entered,))
        other.start()
        assert not entered.wait(3)
    assert entered.wait(60)
    other.join()


def _enter(entered: Any) -> None:
    with tracking.alone():
        entered.set()
