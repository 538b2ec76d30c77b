"""Checkpoints, and a training in processes of its own that are killed and started again."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import yaml

from tasks.checkpoints import NOWHERE, Checkpoints, Place, State, Stop, keeping
from tasks.encoder import Encoder
from tasks.errors import Interrupted
from tasks.examples import Columns

ROOT = Path(__file__).parent.parent
PATIENCE_SECONDS = 60
STATE = State(
    {"weights": np.arange(6, dtype=np.float32).reshape(2, 3), "drawn": np.uint8([1, 2])},
    {"step": 3, "best": [0.1, float("inf")]},
)
HISTORY = [{"step": 1, "loss": 0.1 + 0.2}, {"step": 2, "loss": 1e-9}, {"step": 3, "loss": 0.5}]


def phase(folder: Path, identity: str = "of these inputs", **settings: object) -> Checkpoints:
    given = {"seconds": 60, "stop": Stop(), "history": [], **settings}
    return Checkpoints(folder / "a-fit.checkpoint", identity, **given)


class TestKeeping:
    def test_a_state_is_read_back_as_it_was_kept_with_the_scores_so_far(self, tmp_path, capsys):
        phase(tmp_path, history=list(HISTORY)).keep(STATE)
        history = [{"step": 9}]
        kept = phase(tmp_path, history=history).latest()
        assert kept.values == STATE.values
        assert kept.arrays.keys() == STATE.arrays.keys()
        for name, array in STATE.arrays.items():
            assert np.array_equal(kept.arrays[name], array)
            assert kept.arrays[name].dtype == array.dtype
            assert kept.arrays[name].flags.writeable
        assert history == HISTORY
        assert "goes on after step 3, from" in capsys.readouterr().out
        assert [path.name for path in tmp_path.iterdir()] == ["a-fit.checkpoint"]

    def test_where_nothing_was_kept_there_is_nothing_to_tell(self, tmp_path, capsys):
        assert phase(tmp_path / "none").latest() is None
        assert capsys.readouterr().out == ""

    def test_it_is_due_after_some_seconds_and_again_after_as_many(self, tmp_path):
        now = [100.0]
        kept = phase(tmp_path, seconds=5, clock=lambda: now[0])
        seen = []
        for now[0] in (100, 104.9, 105, 109):
            seen.append(kept.due())
        kept.keep(STATE)
        for now[0] in (113.9, 114):
            seen.append(kept.due())
        assert seen == [False, False, True, True, False, True]

    def test_asked_to_stop_it_is_due_keeps_and_then_raises(self, tmp_path):
        stop = Stop()
        kept = phase(tmp_path, stop=stop)
        assert not kept.due()
        assert not kept.stopping
        stop.signal = signal.SIGINT
        assert kept.due()
        assert kept.stopping
        with pytest.raises(Interrupted, match=r"stopped by SIGINT at step 3; next: .*from there"):
            kept.keep(STATE)
        assert phase(tmp_path).latest().values["step"] == 3

    def test_nowhere_keeps_nothing(self):
        NOWHERE.keep(STATE)
        assert NOWHERE.latest() is None
        assert not NOWHERE.due()

    def test_only_the_first_process_writes_and_tells(self, tmp_path, monkeypatch, capsys):
        monkeypatch.setenv("RANK", "1")
        phase(tmp_path).keep(STATE)
        assert list(tmp_path.iterdir()) == []
        monkeypatch.setenv("RANK", "0")
        phase(tmp_path).keep(STATE)
        monkeypatch.setenv("RANK", "1")
        assert phase(tmp_path).latest().values == STATE.values
        assert capsys.readouterr().out == ""

    def test_where_a_training_cannot_go_on_it_is_said_why(self, tmp_path, capsys):
        history = list(HISTORY)
        phase(tmp_path, history=history).mark(7, "it has no memory")
        assert phase(tmp_path, history=history[:0]).latest() is None
        assert "starts from the beginning: it has no memory" in capsys.readouterr().out
        stop = Stop()
        stop.signal = signal.SIGTERM
        with pytest.raises(Interrupted, match="from the beginning: it has no memory"):
            phase(tmp_path, stop=stop).mark(8, "it has no memory")


def spoilt(kind: str, path: Path) -> str:
    """Spoil a checkpoint; give what has to be said of it."""
    content = path.read_bytes()
    if kind == "folder":
        path.unlink()
        path.mkdir()
        return "Is a directory"
    if kind == "renamed":
        header, _, rest = content.partition(b"\n")
        text = json.loads(header)
        path.write_bytes(json.dumps({**text, "identity": "another"}).encode() + b"\n" + rest)
        return "is of a training of other inputs"
    flipped = bytearray(content)
    where = {"flip at the end": len(content) - 1, "flip in the middle": len(content) // 2}
    flipped[where.get(kind, 0)] ^= 1
    half = content[: len(content) // 2]
    path.write_bytes({"empty": b"", "half": half, "list": b"[]\n"}.get(kind, bytes(flipped)))
    return "is damaged"


KINDS = ["empty", "half", "list", "flip at the end", "flip in the middle", "flip", "folder"]


class TestWhatCannotBeTrusted:
    @pytest.mark.parametrize("kind", [*KINDS, "renamed"])
    def test_it_is_told_and_left_alone(self, kind, tmp_path, capsys):
        phase(tmp_path, history=list(HISTORY)).keep(STATE)
        said = spoilt(kind, tmp_path / "a-fit.checkpoint")
        history: list[dict[str, float]] = []
        assert phase(tmp_path, history=history).latest() is None
        out = capsys.readouterr().out
        assert out.startswith("checkpoint: training starts from the beginning: ")
        assert said in out
        assert out.count("\n") == 1
        assert history == []

    def test_every_flipped_bit_and_every_cut_is_seen(self, tmp_path):
        phase(tmp_path, history=list(HISTORY)).keep(STATE)
        path = tmp_path / "a-fit.checkpoint"
        content = path.read_bytes()
        for place in range(len(content)):
            path.write_bytes(content[:place])
            assert phase(tmp_path).latest() is None, f"cut at {place}"
            other = bytearray(content)
            other[place] ^= 1 << place % 8
            path.write_bytes(other)
            assert phase(tmp_path).latest() is None, f"flipped at {place}"

    def test_one_of_other_inputs_is_told_as_such(self, tmp_path, capsys):
        phase(tmp_path, "of other inputs").keep(STATE)
        assert phase(tmp_path).latest() is None
        assert "is of a training of other inputs" in capsys.readouterr().out

    def test_a_disk_that_refuses_is_told_once_and_ends_nothing(self, tmp_path, capsys):
        (tmp_path / "file").touch()
        stop = Stop()
        kept = phase(tmp_path / "file", stop=stop)
        kept.keep(STATE)
        kept.keep(STATE)
        out = capsys.readouterr().out
        assert out.startswith("checkpoint: training goes on, but its state could not be kept: ")
        assert out.count("\n") == 1
        stop.signal = signal.SIGTERM
        with pytest.raises(Interrupted, match="from the beginning: its state could not be kept"):
            kept.keep(STATE)

    def test_a_full_disk_leaves_the_last_state_and_no_partial_file(self, tmp_path):
        phase(tmp_path).keep(STATE)
        limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))"
        code = f"""
{limit}
import signal, numpy as np
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
from pathlib import Path
from tasks.checkpoints import Checkpoints, State, Stop
path = Path({str(tmp_path)!r}, "a-fit.checkpoint")
kept = Checkpoints(path, "of these inputs", seconds=60, stop=Stop(), history=[])
kept.keep(State({{"big": np.zeros(10_000)}}, {{"step": 4}}))
"""
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
        )
        assert "could not be kept: [Errno 27] File too large" in done.stdout
        assert phase(tmp_path).latest().values == STATE.values
        assert [path.name for path in tmp_path.iterdir()] == ["a-fit.checkpoint"]


class TestPlace:
    def test_what_a_training_kept_goes_when_it_ends_and_stays_when_it_fails(
        self, tmp_path, monkeypatch
    ):
        def fail(place: Place) -> None:
            place.phase("fit", []).keep(STATE)
            raise ValueError("wrong")

        folder = tmp_path / "kept"
        monkeypatch.setenv("VERBATIM_CHECKPOINTS", str(folder))
        Place(folder, "f" * 64, 60).phase("fit", []).keep(STATE)
        with pytest.raises(ValueError, match="wrong"), keeping("e" * 64, seconds=60) as place:
            fail(place)
        assert len(list(folder.iterdir())) == 2
        with keeping("e" * 64, seconds=60) as place:
            assert place.phase("fit", []).latest().values == STATE.values
            place.phase("refit", []).keep(STATE)
            (folder / f"{'e' * 16}-fit.checkpoint.77.tmp").touch()
        assert [path.name[0] for path in folder.iterdir()] == ["f"]

    def test_the_state_of_one_phase_is_of_no_use_to_another(self, tmp_path, capsys):
        place = Place(tmp_path, "e" * 64, 60)
        place.phase("fit", []).keep(STATE)
        (kept,) = tmp_path.iterdir()
        kept.rename(tmp_path / kept.name.replace("fit", "refit"))
        assert place.phase("refit", []).latest() is None
        assert "is of a training of other inputs" in capsys.readouterr().out

    def test_what_nobody_came_back_to_goes_after_a_week(self, tmp_path, monkeypatch):
        monkeypatch.setenv("VERBATIM_CHECKPOINTS", str(tmp_path))
        now = time.time()
        for name, days in {"old-fit.checkpoint": 8, "new-fit.checkpoint": 6, "mine": 900}.items():
            (tmp_path / name).touch()
            os.utime(tmp_path / name, (now - days * 86_400,) * 2)
        with keeping("e" * 64, seconds=60):
            assert sorted(path.name for path in tmp_path.iterdir()) == [
                "mine",
                "new-fit.checkpoint",
            ]

    def test_signals_are_heard_within_and_as_before_after(self):
        before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
        stop = Stop()
        with stop.listening():
            os.kill(os.getpid(), signal.SIGTERM)
            assert stop.signal == signal.SIGTERM
            assert signal.getsignal(signal.SIGINT) == signal.SIG_DFL, "a second one ends at once"
        assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before


COLUMNS = Columns(keys=("id",), numeric=("x", "gappy", "flat"), categorical=("c",), target="y")
TREES = {
    "learning_rate": 0.02,
    "max_depth": 5,
    "min_child_weight": 1,
    "subsample": 1,
    "colsample_bynode": 1,
    "reg_lambda": 1,
    "device": "cpu",
    "max_rounds": 200,
    "early_stopping_rounds": 200,
}


def examples(part: int, rows: int) -> pl.DataFrame:
    draw = np.random.default_rng(part)
    x, kind = draw.normal(size=rows), draw.integers(0, 30, rows)
    gappy = [None if each > 1 else each for each in draw.normal(size=rows).tolist()]
    y = (draw.random(rows) < 1 / (1 + np.exp(-x - (kind % 3)))).astype(np.int8)
    kinds = [None if each == 7 else f"kind {each}" for each in kind.tolist()]
    return pl.DataFrame(
        {"id": np.arange(rows), "x": x, "gappy": gappy, "flat": 1.0, "c": kinds, "y": y},
        schema_overrides={"gappy": pl.Float64},
    )


def settle(folder: Path, **trees: float) -> None:
    params = {
        "seed": 1,
        "model": "trees",
        "models": yaml.safe_load((ROOT / "params.yaml").read_text())["models"]
        | {"trees": TREES | trees},
        "train": {"refit": True, "checkpoint_seconds": 0.02},
    }
    (folder / "params.yaml").write_text(yaml.safe_dump(params))


@pytest.fixture(scope="module")
def untouched(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, bytes]]:
    """A folder to run `train` in, that has a second or two to do, and what must come out."""
    checkout = tmp_path_factory.mktemp("untouched")
    folder = checkout / "data" / "featurize"
    folder.mkdir(parents=True)
    for number, (part, rows) in enumerate({"train": 2000, "between": 200, "val": 800}.items()):
        examples(number, rows).write_parquet(folder / f"{part}.parquet")
    (folder / "encoder.json").write_text(Encoder.fit(examples(0, 2000), COLUMNS).to_json())
    settle(checkout)
    found, told = finish(checkout)
    assert sorted(found) == ["history.json", "learner.json", "model.ubj"]
    assert "checkpoint" not in told
    return checkout, found


@pytest.fixture
def expected(untouched: tuple[Path, dict[str, bytes]]) -> dict[str, bytes]:
    return untouched[1]


@pytest.fixture
def checkout(untouched: tuple[Path, dict[str, bytes]], tmp_path: Path) -> Path:
    """The folder again, in which nothing has run."""
    copy = Path(shutil.copytree(untouched[0], tmp_path / "checkout"))
    shutil.rmtree(copy / "data" / "train")
    shutil.rmtree(copy / ".verbatim")
    return copy


def start(checkout: Path, **environment: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tasks.train", "data/featurize", "data/train"]
    inherited = {name: os.environ[name] for name in os.environ if name != "VERBATIM_CHECKPOINTS"}
    return subprocess.Popen(
        command,
        cwd=checkout,
        env=inherited | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def outputs(checkout: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((checkout / "data/train").iterdir())}


def finish(checkout: Path) -> tuple[dict[str, bytes], str]:
    """Train to the end; give what came out, and what was told of checkpoints on the way."""
    process = start(checkout)
    told, errors = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 0, errors
    assert errors == ""
    assert list((checkout / ".verbatim" / "checkpoints").iterdir()) == []
    return outputs(checkout), told


def kept_step(checkout: Path, name: str) -> int:
    """The step that a phase has kept; 0 if it has not."""
    for path in (checkout / ".verbatim" / "checkpoints").glob(f"*-{name}.checkpoint"):
        return int(json.loads(path.read_bytes().split(b"\n")[1])["values"]["step"])
    return 0


def wait_until(holds: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not holds():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.001)


def stop(checkout: Path, name: str, step: int, number: int) -> tuple[int, str, str]:
    """Send a signal when a phase has kept this step; give exit status, output and errors."""
    process = start(checkout)
    wait_until(lambda: kept_step(checkout, name) >= step, process)
    process.send_signal(number)
    told, errors = process.communicate(timeout=PATIENCE_SECONDS)
    return process.returncode, told, errors


class TestTraining:
    def test_killed_again_and_again_it_ends_with_the_same_bytes(self, checkout, expected):
        first, second, third = (random.randint(*ends) for ends in ((1, 80), (90, 170), (1, 60)))
        for name, step in (("fit", first), ("fit", second), ("refit", third)):
            status, _, _ = stop(checkout, name, step, signal.SIGKILL)
            assert status == -signal.SIGKILL
            assert not (checkout / "data" / "train").exists()
        found, told = finish(checkout)
        assert found == expected, (first, second, third)
        assert told.count("goes on after step") == 2, "of the fit, which had ended, and the refit"

    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
    def test_asked_to_stop_it_keeps_its_state_and_goes_on_from_there(
        self, number, checkout, expected
    ):
        status, _, errors = stop(checkout, "fit", 20, number)
        assert status == 128 + number
        step = kept_step(checkout, "fit")
        assert errors == (
            f"Interrupted: train: stopped by {number.name} at step {step}; "
            "next: the same command goes on from there\n"
        )
        found, told = finish(checkout)
        assert found == expected
        assert told.startswith(f"checkpoint: training goes on after step {step}, from ")
        assert f"progress {step + 1}/200 " in told.splitlines()[1]

    def test_it_stops_when_who_started_it_is_killed(self, checkout, expected):
        """As a `dvc repro` is that gets SIGTERM, and a flow that is killed."""
        parameters = (checkout / "params.yaml").read_text()
        rarely = parameters.replace("checkpoint_seconds: 0.02", "checkpoint_seconds: 600")
        (checkout / "params.yaml").write_text(rarely)
        stage = [sys.executable, "-m", "tasks.train", "data/featurize", "data/train"]
        parent = subprocess.Popen(
            [sys.executable, "-c", f"import subprocess; subprocess.run({stage})"],
            cwd=checkout,
            env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            text=True,
        )
        assert parent.stdout.readline().startswith("progress ")
        parent.kill()
        parent.communicate()  # until the stage has ended, too
        assert kept_step(checkout, "fit") > 0
        found, told = finish(checkout)
        assert found == expected
        assert "goes on after step" in told

    def test_with_sampling_it_starts_anew_and_says_so(self, checkout):
        settle(checkout, subsample=0.5)
        status, _, errors = stop(checkout, "fit", 20, signal.SIGTERM)
        assert status == 128 + signal.SIGTERM
        assert "next: the same command starts from the beginning: XGBoost 3.2" in errors
        found, told = finish(checkout)
        assert told.startswith("checkpoint: training starts from the beginning: XGBoost 3.2 ")
        assert "progress 1/200 " in told.splitlines()[1]
        assert finish(checkout)[0] == found

    @pytest.mark.parametrize("kind", ["half", "renamed", "foreign"])
    def test_a_spoilt_or_foreign_checkpoint_changes_nothing(self, kind, checkout, expected):
        stop(checkout, "fit", 5, signal.SIGTERM)
        (own,) = (checkout / ".verbatim" / "checkpoints").iterdir()
        if kind == "foreign":
            own.unlink()
            settle(checkout, learning_rate=0.3)
            stop(checkout, "fit", 5, signal.SIGTERM)
            (foreign,) = own.parent.iterdir()
            foreign.rename(own)
            settle(checkout)
            said = "is of a training of other inputs"
        else:
            said = spoilt(kind, own)
        found, told = finish(checkout)
        assert found == expected
        assert said in told.splitlines()[0]
