"""Live curves: as a process of its own that reads lines, and in the training flow."""

import json
import logging
import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
from left_behind import ASKED, MLFLOW_WARNS, ROOT

from flows import live
from flows.live import Live
from tasks import files, lineage, live_run, tracking

pytestmark = MLFLOW_WARNS
PATIENCE_SECONDS = 60
KEY = "0" * 64


RUNS = """(
    SELECT run_uuid, status, start_time FROM runs JOIN tags USING (run_uuid)
    WHERE tags.key = 'lineage_key' AND tags.value LIKE ? || '%'
)"""


def rows(folder: Path, query: str, key: str) -> list[Any]:
    with closing(sqlite3.connect(folder / "mlflow.db", timeout=60)) as database:
        return database.execute(query, [key]).fetchall()


def statuses(folder: Path, key: str = KEY) -> list[str]:
    """Of the runs with this lineage key, the oldest first."""
    found = rows(folder, f"SELECT status FROM {RUNS} ORDER BY start_time", key)  # noqa: S608
    return [status for (status,) in found]


def curve(folder: Path, name: str, key: str = KEY) -> list[tuple[int, float]]:
    """Step and value of each point of the newest run with this lineage key."""
    newest = f"(SELECT run_uuid FROM {RUNS} ORDER BY start_time DESC LIMIT 1)"  # noqa: S608
    points = f"SELECT step, value FROM metrics WHERE run_uuid = {newest}"  # noqa: S608
    return rows(folder, f"{points} AND key = 'history/{name}' ORDER BY step", key)


def wait_until(condition: Callable[[], bool], seconds: float = PATIENCE_SECONDS) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@contextmanager
def reader(folder: Path, key: str = KEY) -> Iterator[subprocess.Popen[str]]:
    """The process as the flow starts it."""
    process = subprocess.Popen(
        [sys.executable, "-m", "flows.live", "a-name", ASKED["experiment"], key],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        bufsize=1,
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def tell(process: subprocess.Popen[str], *lines: str) -> None:
    assert process.stdin is not None
    process.stdin.write("".join(f"{line}\n" for line in lines))


def progress(step: int) -> str:
    return f"progress {step}/9 train_log_loss={1 / step:.6g} val_log_loss={2 / step:.6g}"


def test_points_are_read_off_the_lines_of_a_stage():
    line = "progress 3/12 refit_train_log_loss=0.31 rate=1e-3 word other=text"
    assert live.points(line) == [
        ("history/refit_train_log_loss", 0.31, 3),
        ("history/rate", 0.001, 3),
    ]
    assert live.points("progressing well") == []


class TestProcess:
    def test_points_arrive_while_lines_come_and_the_end_of_them_is_a_failure(self, here: Path):
        with reader(here) as process:
            tell(process, progress(1), "no line of progress", progress(2), progress(2))
            wait_until(lambda: len(curve(here, "val_log_loss")) == 2)
            assert statuses(here) == ["RUNNING"]
            process.send_signal(signal.SIGINT)  # as Ctrl-C, which is for the flow
            tell(process, progress(2), progress(3))
            wait_until(lambda: len(curve(here, "val_log_loss")) == 3)
            assert curve(here, "train_log_loss") == [(1, 1.0), (2, 0.5), (3, 0.333333)]
            output, _ = process.communicate(timeout=PATIENCE_SECONDS)
        assert statuses(here) == ["FAILED"]
        assert (process.returncode, output) == (0, "")

    def test_end_of_the_process_leaves_no_run_open_for_long(self, here: Path):
        for number, status in ((signal.SIGTERM, "FAILED"), (signal.SIGKILL, "RUNNING")):
            with reader(here) as process:
                tell(process, progress(1))
                wait_until(lambda: statuses(here)[-1:] == ["RUNNING"])
                process.send_signal(number)
                process.wait(PATIENCE_SECONDS)
            assert statuses(here)[-1] == status
        with reader(here) as process:
            tell(process, progress(1))
            wait_until(lambda: statuses(here) == ["FAILED", "FAILED", "RUNNING"])

    def test_recording_goes_on_in_the_run_and_every_point_is_there_once(self, here: Path):
        with reader(here) as process:
            tell(process, progress(1), progress(4))
            wait_until(lambda: len(curve(here, "val_log_loss")) == 2)
            with reader(here) as second:  # of the same training in another checkout, say
                tell(second, progress(7))
                assert second.wait(PATIENCE_SECONDS) == 0
            experiment = ASKED["experiment"]
            with (
                tracking.alone(),
                tracking.recording("new", experiment=experiment, key=KEY, tags={"a": "b"}) as run,
            ):
                tell(process, progress(8))  # late, and no longer its own
                points = [("history/val_log_loss", 2 / step, step) for step in range(1, 6)]
                run.values({"c": "d"}, points)
            assert statuses(here) == ["FINISHED"]
            process.communicate(timeout=PATIENCE_SECONDS)
        assert statuses(here) == ["FINISHED"]
        assert [step for step, _ in curve(here, "val_log_loss")] == [1, 2, 3, 4, 5]
        tags = tracking.connect().get_run(run.run_id).data.tags
        assert tags["recorder"].endswith(f":{os.getpid()}")
        assert (tags["a"], tags["mlflow.runName"]) == ("b", "new")

    def test_what_is_recorded_is_not_shown_again(self, here: Path):
        key = lineage.read().key
        with reader(here, key) as process:
            tell(process, progress(1))
            assert process.wait(PATIENCE_SECONDS) == 0
        assert statuses(here, key) == ["FINISHED"]

    def test_training_that_is_over_is_not_shown(self, here: Path):
        with reader(here) as process:
            tell(process, progress(1), "over")
            process.communicate(timeout=PATIENCE_SECONDS)
        assert statuses(here) == []


def test_use_of_the_machine_is_logged_while_the_training_goes_on(
    here: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.1")
    run = live_run.start("a-name", experiment=ASKED["experiment"], key=KEY, system=True)
    assert run is not None
    client = tracking.connect().MlflowClient()

    def logged() -> int:
        return len(client.get_metric_history(run._run_id, "system/cpu_utilization_percentage"))

    wait_until(lambda: logged() > 2)
    names = client.get_run(run._run_id).data.metrics
    assert {"system/system_memory_usage_megabytes"} < names.keys()
    run.rest()
    before = logged()
    run.write([("history/val_log_loss", 0.5, 1)])
    run.close()
    assert logged() == before
    assert statuses(here) == ["FAILED"]


class TestFlowSide:
    """The flow must not be stopped or delayed, whatever becomes of the process."""

    @pytest.fixture
    def log(self) -> logging.Logger:
        return logging.getLogger("live")

    def begun(self, monkeypatch: pytest.MonkeyPatch, log: logging.Logger, code: str) -> Live:
        """Hand lines to a process that runs `code`, from the first on."""
        monkeypatch.setattr(live, "AFTER_SECONDS", 0)
        monkeypatch.setattr(live, "PATIENCE_SECONDS", 0.5)
        found = Live("a-name", experiment="e", key=KEY, log=log)
        found._command = [sys.executable, "-c", code]
        return found

    @pytest.mark.parametrize("code", ["import time; time.sleep(60)", "", "not Python"])
    def test_reader_that_is_slow_or_gone(self, monkeypatch, log, code: str):
        started = time.monotonic()
        with self.begun(monkeypatch, log, code) as curves:
            with curves.during("train"):
                for _ in range(1000):
                    curves.line(progress(1) + " " * 200)
            process = curves._reader._process
        assert time.monotonic() - started < PATIENCE_SECONDS / 2
        process.kill()
        process.wait()

    def test_reader_that_cannot_be_started(self, monkeypatch, log, caplog):
        with self.begun(monkeypatch, log, "") as curves, curves.during("train"):
            curves._command = ["/nowhere"]
            for step in (1, 2, 3):
                curves.line(progress(step))
        (warning,) = caplog.messages
        assert "the training goes on" in warning

    def test_only_the_training_is_shown_and_only_a_long_one(self, monkeypatch, log):
        with self.begun(monkeypatch, log, "") as curves:
            curves.line(progress(1))
            with curves.during("evaluate"):
                curves.line(progress(1))
            with curves.during("train"):
                curves.line("no line of progress")
            monkeypatch.setattr(live, "AFTER_SECONDS", 60)
            with curves.during("train"):
                curves.line(progress(1))
            assert curves._reader is None

    def test_all_lines_of_the_training_are_handed_on(self, monkeypatch, log, tmp_path: Path):
        code = f"import sys; open({str(tmp_path / 'read')!r}, 'w').write(sys.stdin.read())"
        with self.begun(monkeypatch, log, code) as curves:
            monkeypatch.setattr(live, "PATIENCE_SECONDS", PATIENCE_SECONDS)
            with curves.during("train"):
                monkeypatch.setattr(live, "AFTER_SECONDS", 60)
                curves.line(progress(1))
                monkeypatch.setattr(live, "AFTER_SECONDS", 0)
                curves.line(progress(2))
        lines = [progress(1), progress(2), "over"]
        assert (tmp_path / "read").read_text().splitlines() == lines

    def test_store_out_of_reach_is_warned_of_once(self, monkeypatch, log, caplog, tmp_path: Path):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
        monkeypatch.setenv("PYTHONPATH", str(ROOT))
        monkeypatch.setattr(live, "AFTER_SECONDS", 0)
        monkeypatch.chdir(tmp_path)
        with Live("a-name", experiment="e", key=KEY, log=log) as curves, curves.during("train"):
            curves.line(progress(1))

            def warned() -> bool:
                curves.line(progress(2))
                return bool(caplog.messages)

            wait_until(warned)
            for _ in range(3):
                curves.line(progress(3))
        (warning,) = caplog.messages
        assert "the training goes on, but not its curves in MLflow" in warning
        assert "http://127.0.0.1:1" in warning


FLOW = """
import sys
from flows import live
live.AFTER_SECONDS = 0
from flows.__main__ import main
sys.exit(main())
"""
"""The command line, whose trainings count as long from the first line on."""
SLOW = {
    "models.trees.learning_rate": 0.001,
    "models.trees.max_rounds": 400,
    "models.trees.early_stopping_rounds": 400,
    "evaluate.min_auc": 0.5,
    "evaluate.min_accuracy": 0.5,
}


@dataclass(frozen=True)
class Held:
    """A flow whose training is held while its run is looked at; `key` begins the lineage key."""

    flow: subprocess.Popen[str]
    stage: psutil.Process
    key: str


@contextmanager
def held(checkout: Path, environment: dict[str, str]) -> Iterator[Held]:
    """Start a flow and hold its training from the first line of progress on."""
    settings = [word for name, value in SLOW.items() for word in ("--set", f"{name}={value}")]
    with subprocess.Popen(
        [sys.executable, "-c", FLOW, "train", *settings],
        cwd=checkout,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as flow:
        assert flow.stdout is not None
        lines = list(until("progress 1/400", flow.stdout))
        stages = psutil.Process(flow.pid).children()
        (stage,) = (each for each in stages if "tasks.train" in each.cmdline())
        stage.suspend()
        try:
            yield Held(flow, stage, re.findall(r"baseline-trees-(\w{8})", "".join(lines))[0])
        finally:
            flow.kill()


def until(text: str, lines: Iterable[str]) -> Iterator[str]:
    for line in lines:
        yield line
        if text in line:
            return
    raise AssertionError(f"no line with {text!r}")


def state(environment: dict[str, str], key: str) -> str:
    """How the newest flow run of this key ended."""
    request = urllib.request.Request(
        f"{environment['PREFECT_API_URL']}/flow_runs/filter",
        data=json.dumps(
            {"flow_runs": {"name": {"like_": key}}, "sort": "START_TIME_DESC", "limit": 1}
        ).encode(),
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        return str(json.load(answer)[0]["state_type"])


@pytest.mark.xdist_group("trained")
def test_run_follows_the_flow_to_its_end(trained: Path, prefect):
    """Of three flows of one result the first is terminated, the second killed."""
    with held(trained, prefect) as one:
        wait_until(lambda: curve(trained, "val_log_loss", one.key) != [])
        assert statuses(trained, one.key) == ["RUNNING"]
        one.stage.resume()
        one.flow.terminate()
        output, _ = one.flow.communicate(timeout=PATIENCE_SECONDS)
    assert statuses(trained, one.key) == ["FAILED"]
    assert state(prefect, one.key) == "CRASHED"
    assert "Interrupted: train: stopped by SIGTERM" in output
    with held(trained, prefect) as two:
        wait_until(lambda: statuses(trained, one.key) == ["FAILED", "RUNNING"])
        two.flow.kill()
        wait_until(lambda: statuses(trained, one.key) == ["FAILED", "FAILED"], seconds=10)
        two.stage.resume()  # one that is suspended takes no SIGTERM
        two.stage.wait(PATIENCE_SECONDS)
    with held(trained, prefect) as three:
        wait_until(lambda: statuses(trained, one.key) == ["FAILED", "FAILED", "RUNNING"])
        three.stage.resume()
        output, _ = three.flow.communicate(timeout=PATIENCE_SECONDS)
    assert three.flow.returncode == 0, output
    assert "WARN" not in output
    assert statuses(trained, one.key) == ["FAILED", "FAILED", "FINISHED"]
    history = files.read_json(trained / "data" / "train" / "history.json")
    for name in ("train_log_loss", "val_log_loss"):
        points = [(score["step"], score[name]) for score in history]
        assert curve(trained, name, one.key) == points
    refit = [step for step, _ in curve(trained, "refit_train_log_loss", one.key)]
    assert refit[-1] == len(history)
    assert len(set(refit)) == len(refit)
