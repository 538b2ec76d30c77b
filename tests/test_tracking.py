import multiprocessing
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from conftest import free_ports
from left_behind import ASKED, MLFLOW_WARNS, ROOT, tell_place
from mlflow.exceptions import MlflowException, RestException
from mlflow.models import ModelSignature
from mlflow.protos.databricks_pb2 import TEMPORARILY_UNAVAILABLE
from mlflow.types.schema import AnyType, ColSpec, Schema
from sqlalchemy import create_engine, text
from sqlalchemy.exc import OperationalError

from tasks import files, lineage, store, tracking
from tasks.errors import StageError, TemporaryError
from tasks.past_model import PastModel, UnfitModelError

pytestmark = MLFLOW_WARNS


def alter(folder: Path, statement: str) -> None:
    with closing(sqlite3.connect(folder / "mlflow.db")) as database, database:
        database.execute(statement)


def test_finds_what_was_recorded_with_and_without_mlflow(here: Path) -> None:
    key = lineage.read().key
    record = tracking.find(key, **ASKED)
    assert record is not None
    assert (record.passed, record.version, record.aliased) == (True, 1, True)
    assert record.complete
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
    alter(here, change)
    assert find(lineage.read().key, **ASKED) is None


@pytest.mark.parametrize("find", [tracking.find, tracking._find])
@pytest.mark.parametrize(
    "change",
    [
        "DELETE FROM registered_model_aliases",
        "UPDATE registered_model_aliases SET version = 2",
        "UPDATE registered_model_aliases SET alias = 'another'",
        "UPDATE model_versions SET current_stage = 'Deleted_Internal'",
    ],
)
def test_without_version_or_alias_the_record_is_not_complete(
    here: Path, find: Any, change: str
) -> None:
    alter(here, change)
    record = find(lineage.read().key, **ASKED)
    assert not record.aliased
    assert not record.complete
    alter(here, "UPDATE tags SET value = 'failed' WHERE key = 'gate'")
    assert find(lineage.read().key, **ASKED).complete


def test_another_model_or_alias_is_not_asked_for(here: Path) -> None:
    for other in ("model_name", "alias"):
        record = tracking.find(lineage.read().key, **{**ASKED, other: "another"})
        assert record is not None
        assert not record.complete


def test_question_writes_nothing_and_finds_what_was_moved(here: Path) -> None:
    before = (here / "mlflow.db").read_bytes()
    record = tracking.find(lineage.read().key, **ASKED)
    assert record is not None
    assert tracking._find(lineage.read().key, **ASKED) == record
    assert (here / "mlflow.db").read_bytes() == before
    shutil.rmtree(here / "mlartifacts" / record.run_id)
    assert tracking.find(lineage.read().key, **ASKED) is None


def places(folder: Path) -> list[str]:
    with closing(sqlite3.connect(folder / "mlflow.db")) as database:
        return [
            place
            for table, column in store._PATHS.items()
            for (place,) in database.execute(f"SELECT {column} FROM {table}")  # noqa: S608
        ]


@pytest.mark.parametrize("copied", [False, True])
def test_moved_store_is_told_its_place(here: Path, *, copied: bool) -> None:
    """A copy too, whose original is still there: it must not write into that."""
    if copied:
        (here.parent / "gone" / "mlartifacts").mkdir(parents=True)
    gone = str(here.parent / "gone" / "mlartifacts")
    told = [place for place in places(here) if place.startswith(gone)]
    store.follow_move()
    assert len(told) == len(store._PATHS)
    moved = [place.replace("/gone/", "/moved/") for place in told]
    assert [place for place in places(here) if str(here) in place] == moved


@pytest.mark.parametrize("kind", ["remote", "not here"])
def test_store_that_did_not_move_is_left_alone(here: Path, kind: str) -> None:
    old = here.parent / "gone"
    if kind == "remote":
        tell_place(here / "mlflow.db", old, Path("s3://bucket"))
        alter(here, "UPDATE experiments SET artifact_location = 's3://bucket/mlartifacts'")
    else:
        (here / "mlartifacts").rename(here / "elsewhere")
    before = places(here)
    store.follow_move()
    assert places(here) == before


def test_locked_store_may_be_free_again(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "PATIENCE_SECONDS", 0)
    with closing(sqlite3.connect(here / "mlflow.db")) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(TemporaryError, match=r"mlflow\.db: must be free"):
            store.follow_move()


@pytest.mark.parametrize("content", [b"", b"no database" * 100])
def test_what_is_no_store_is_left_to_mlflow(here: Path, content: bytes) -> None:
    (here / "mlflow.db").write_bytes(content)
    store.follow_move()
    assert (here / "mlflow.db").read_bytes() == content


def test_server_that_does_not_answer_may_answer_later(monkeypatch: pytest.MonkeyPatch) -> None:
    (port,) = free_ports(1)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(TemporaryError, match=f"http://127.0.0.1:{port}: must answer"):
        tracking.find("0" * 64, **ASKED)


@pytest.mark.parametrize("status", ["TEMPORARILY_UNAVAILABLE", "503"])
def test_server_that_is_too_busy_may_answer_later(
    monkeypatch: pytest.MonkeyPatch, status: str
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    with pytest.raises(TemporaryError), store.reachable():
        raise RestException({"error_code": status, "message": "not now"})


def test_what_mlflow_finds_locked_may_be_free_later(here: Path) -> None:
    with closing(sqlite3.connect(here / "mlflow.db")) as other:
        other.execute("BEGIN EXCLUSIVE")
        engine = create_engine(store.uri(), connect_args={"timeout": 0})
        with pytest.raises(TemporaryError, match="database is locked"), store.reachable():
            _as_mlflow_does(engine)
        engine.dispose()


def _as_mlflow_does(engine: Any) -> None:
    try:
        with engine.connect() as connection:
            connection.execute(text("SELECT * FROM runs"))
    except OperationalError as error:
        raise MlflowException(str(error), TEMPORARILY_UNAVAILABLE) from error


def test_other_errors_are_not_temporary(here: Path) -> None:
    with pytest.raises(MlflowException), store.reachable():
        tracking.connect().MlflowClient().get_run("0" * 32)
    with pytest.raises(MlflowException), store.reachable():
        raise MlflowException("no such table", TEMPORARILY_UNAVAILABLE)  # of a local file
    with pytest.raises(StageError) as raised, store.reachable():
        raise StageError("as it is")
    assert type(raised.value) is StageError


def test_no_store_holds_nothing_and_none_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")
    assert tracking.find("0" * 64, **ASKED) is None
    assert list(tmp_path.iterdir()) == []


def test_question_to_a_local_store_does_not_import_mlflow(here: Path) -> None:
    code = (
        "import sys; from tasks import lineage, tracking;"
        f"found = tracking.find(lineage.read().key, **{ASKED});"
        "print(found.complete, 'mlflow' in sys.modules)"
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
    alter(here, "UPDATE experiments SET lifecycle_stage = 'deleted'")
    with (
        pytest.raises(StageError, match="mlflow experiments restore --experiment-id 1") as raised,
        tracking.recording("name", experiment=ASKED["experiment"], key="0", tags={}),
    ):
        pass
    assert not isinstance(raised.value, TemporaryError)


def start_a_run(here: Path, key: str) -> dict[str, str]:
    """Record an empty run beside the one that is there: the status of each, by run name."""
    with tracking.recording("new", experiment=ASKED["experiment"], key=key, tags={}):
        pass
    with closing(sqlite3.connect(here / "mlflow.db")) as database:
        return dict(database.execute("SELECT name, status FROM runs"))


def left_open(here: Path, recorder: str, hours_ago: float = 0) -> str:
    """Make the run look as if its recorder were at work; give its lineage key."""
    alter(here, f"UPDATE tags SET value = '{recorder}' WHERE key = 'recorder'")  # noqa: S608
    seen = int((time.time() - 3600 * hours_ago) * 1000)
    alter(here, f"UPDATE tags SET value = '{seen}' WHERE key = 'seen'")  # noqa: S608
    alter(here, f"UPDATE runs SET name = 'old', status = 'RUNNING', start_time = {seen}")  # noqa: S608
    return lineage.read().key


@pytest.mark.parametrize("hours_ago", [0, 2])
def test_run_of_a_living_process_stays_open(here: Path, hours_ago: float) -> None:
    key = left_open(here, f"{socket.gethostname()}:{os.getpid()}", hours_ago)
    assert start_a_run(here, key) == {"old": "RUNNING", "new": "FINISHED"}


@pytest.mark.parametrize(("hours_ago", "status"), [(0.9, "RUNNING"), (1.1, "FAILED")])
def test_run_of_another_machine_is_closed_after_an_hour(
    here: Path, hours_ago: float, status: str
) -> None:
    key = left_open(here, "another-machine:1", hours_ago)
    assert start_a_run(here, key) == {"old": status, "new": "FINISHED"}


def test_open_run_of_a_person_is_none_of_ours(here: Path) -> None:
    key = left_open(here, "", hours_ago=1000)
    assert start_a_run(here, key) == {"old": "RUNNING", "new": "FINISHED"}


def test_sound_run_that_another_machine_finished_meanwhile_stays(here: Path) -> None:
    alter(here, "UPDATE runs SET name = 'old'")
    key = lineage.read().key
    assert start_a_run(here, key) == {"old": "FINISHED", "new": "FINISHED"}


def test_run_without_its_artifacts_is_closed(here: Path) -> None:
    alter(here, "UPDATE runs SET name = 'old'")
    shutil.rmtree(here / "mlartifacts")
    assert start_a_run(here, lineage.read().key) == {"old": "FAILED", "new": "FINISHED"}


def test_past_model_scores_as_it_was_evaluated(here: Path) -> None:
    record = tracking.find(lineage.read().key, **ASKED)
    assert record is not None
    shutil.rmtree(here / "data" / "train")  # it must come from the store
    frame = files.read_parquet(here / "data" / "featurize" / "test.parquet")
    evaluated = files.read_parquet(here / "data" / "evaluate" / "predictions.parquet")["score"]
    assert PastModel(record.run_id).predict(frame).tolist() == evaluated.to_list()


def test_unknown_past_model_is_named(here: Path) -> None:
    frame = files.read_parquet(here / "data" / "featurize" / "test.parquet")
    with pytest.raises(StageError, match=f"run '{'0' * 32}' must hold a model") as raised:
        PastModel("0" * 32).predict(frame)
    assert raised.type is StageError  # it may be there tomorrow


def test_past_model_of_other_columns_is_refused(here: Path) -> None:
    record = tracking.find(lineage.read().key, **ASKED)
    assert record is not None
    frame = files.read_parquet(here / "data" / "featurize" / "test.parquet")
    with pytest.raises(UnfitModelError) as raised:
        PastModel(record.run_id).predict(frame.drop("days", "country"))
    assert "a model that also learned from days, country" in str(raised.value)
    assert "or set evaluate.baseline_run_id to null" in str(raised.value)


SHORT = """
import mlflow, numpy, pandas
class Short(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input: pandas.DataFrame):
        return numpy.zeros(len(model_input) - 1)
mlflow.models.set_model(Short())
"""


@pytest.mark.filterwarnings("ignore")  # MLflow's, of how little this model tells
@pytest.mark.parametrize(
    ("names", "refusal"),
    [(("visits",), r"shape \(49,\) for 50 rows"), ((), "does not name its columns")],
)
def test_past_model_of_another_kind_is_refused(
    here: Path, names: tuple[str, ...], refusal: str
) -> None:
    (here / "short.py").write_text(SHORT)
    columns = [ColSpec(AnyType(), name, required=False) for name in names]
    signature = ModelSignature(Schema(columns)) if names else None
    with tracking.recording("short", experiment=ASKED["experiment"], key="0", tags={}) as short:
        short.mlflow.pyfunc.log_model(
            name=store.MODEL,
            python_model=str(here / "short.py"),
            signature=signature,
            pip_requirements=["mlflow"],
        )
    frame = files.read_parquet(here / "data" / "featurize" / "test.parquet")
    with pytest.raises(UnfitModelError, match=refusal):
        PastModel(short.run_id).predict(frame)


def test_one_recorder_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    context = multiprocessing.get_context("spawn")
    about_to, entered = context.Event(), context.Event()
    with tracking.alone():
        other = context.Process(target=_enter, args=(about_to, entered))
        other.start()
        assert about_to.wait(60)
        assert not entered.wait(1)
    assert entered.wait(60)
    other.join()


def _enter(about_to: Any, entered: Any) -> None:
    about_to.set()
    with tracking.alone():
        entered.set()
