"""The stage `train` with the learner `network`: killed, and by several processes."""

import json
import random
import shutil
import signal
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from test_checkpoints import (
    COLUMNS,
    ROOT,
    examples,
    finish,
    kept_step,
    outputs,
    start,
    stop,
    wait_until,
)
from test_network import SETTINGS

from tasks.encoder import Encoder

NETWORK = SETTINGS | {"batch_size": 100, "max_epochs": 8, "early_stopping_epochs": 8}


def settle(folder: Path, **network: Any) -> None:
    params = {
        "seed": 1,
        "model": "network",
        "models": yaml.safe_load((ROOT / "params.yaml").read_text())["models"]
        | {"network": NETWORK | network},
        "train": {"refit": True, "checkpoint_seconds": 0.02},
    }
    (folder / "params.yaml").write_text(yaml.safe_dump(params))


@pytest.fixture(scope="module")
def untouched(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, bytes]]:
    """A folder to run `train` in, and what must come out."""
    checkout = tmp_path_factory.mktemp("untouched")
    folder = checkout / "data" / "featurize"
    folder.mkdir(parents=True)
    for number, (part, rows) in enumerate({"train": 4000, "between": 200, "val": 800}.items()):
        examples(number, rows).write_parquet(folder / f"{part}.parquet")
    (folder / "encoder.json").write_text(Encoder.fit(examples(0, 4000), COLUMNS).to_json())
    settle(checkout)
    found, _ = finish(checkout)
    assert sorted(found) == ["history.json", "learner.json", "model.safetensors"]
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


def curve(found: dict[str, bytes]) -> dict[str, list[float]]:
    steps = json.loads(found["history.json"])
    return {name: [step[name] for step in steps] for name in steps[0]}


def test_threads_and_places_of_the_machine_change_no_byte(
    checkout: Path, expected: dict[str, bytes]
) -> None:
    process = start(
        checkout, OMP_NUM_THREADS="8", MKL_NUM_THREADS="2", PYTHONHASHSEED="7", TZ="Asia/Kathmandu"
    )
    _, errors = process.communicate(timeout=120)
    assert errors == ""
    assert outputs(checkout) == expected


def test_killed_again_and_again_it_ends_with_the_same_bytes(
    checkout: Path, expected: dict[str, bytes]
) -> None:
    kills = (("fit", random.randint(1, 6)), ("refit", random.randint(0, 2)))
    for name, step in kills:
        status, _, _ = stop(checkout, name, step, signal.SIGKILL)
        assert status == -signal.SIGKILL
    found, told = finish(checkout)
    assert found == expected, kills
    assert "goes on after step" in told


def test_asked_to_stop_it_goes_on_within_the_epoch(
    checkout: Path, expected: dict[str, bytes]
) -> None:
    status, _, errors = stop(checkout, "fit", 2, signal.SIGTERM)
    assert status == 128 + signal.SIGTERM
    assert errors.startswith("Interrupted: train: stopped by SIGTERM at step ")
    step = kept_step(checkout, "fit")
    found, told = finish(checkout)
    assert found == expected
    assert f"goes on after step {step}, from " in told


class TestSeveralProcesses:
    def test_two_have_the_loss_curve_of_one(self, checkout: Path) -> None:
        """But for the order of float sums, where dropout draws nothing.

        That order can decide on which side of zero the input of a ReLU falls, and so whether a row
        has a gradient there at all: harmless only where a row is one of many, and steps are few.
        An odd batch has unequal shares, whose gradients must be whole before they are clipped.
        """
        alike = {"dropout": 0, "batch_size": 1001, "gradient_clip_norm": 0.02}
        settle(checkout, **alike)
        of_one, _ = finish(checkout)
        alone = curve(of_one)
        settle(checkout, **alike, processes=2, micro_batch_size=300)
        found, told = finish(checkout)
        assert told.count("progress 1/") == 2, "only the first one speaks, of fit and refit"
        together = curve(found)
        assert together.keys() == alone.keys()
        for name in ("train_log_loss", "val_log_loss", "val_roc_auc"):
            assert together[name] == pytest.approx(alone[name], abs=2e-4), name
        assert found["model.safetensors"] != of_one["model.safetensors"], "sums of another order"

    def test_they_stop_together_and_go_on_to_the_same_bytes(self, checkout: Path) -> None:
        settle(checkout, processes=2)
        whole, _ = finish(checkout)
        shutil.rmtree(checkout / "data" / "train")
        status, _, errors = stop(checkout, "fit", 1, signal.SIGTERM)
        assert status == 128 + signal.SIGTERM, errors
        assert "Interrupted: train: stopped by SIGTERM" in errors
        assert "Traceback" not in errors
        assert kept_step(checkout, "fit") >= 1
        assert not (checkout / "data" / "train").exists()
        found, told = finish(checkout)
        assert "goes on after step" in told
        assert found == whole

    def test_one_that_is_killed_ends_the_others_with_a_word(self, checkout: Path) -> None:
        settle(checkout, processes=2)
        whole, _ = finish(checkout)
        shutil.rmtree(checkout / "data" / "train")
        process = start(checkout)
        wait_until(lambda: kept_step(checkout, "fit") >= 1, process)
        psutil.Process(process.pid).children()[-1].kill()
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 128 + signal.SIGKILL
        assert "Traceback" not in errors
        assert finish(checkout)[0] == whole

    def test_an_error_of_one_is_told_without_a_traceback(self, checkout: Path) -> None:
        settle(checkout, processes=2, learning_rate=1e30, gradient_clip_norm=1e30, warmup_epochs=0)
        process = start(checkout)
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 65
        assert "learning_rate: must keep the loss finite" in errors
        assert "Traceback" not in errors

    def test_torchrun_must_start_as_many_as_the_parameters_say(self, checkout: Path) -> None:
        process = start(checkout, WORLD_SIZE="2", RANK="0")
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 65
        assert "processes: must be as many as torchrun has started (got 1" in errors
        assert not (checkout / "data" / "train").exists()


def test_outputs_are_read_back_whole(untouched: tuple[Path, dict[str, bytes]]) -> None:
    learner = json.loads(outputs(untouched[0])["learner.json"])
    assert (learner["model"], learner["device"], learner["deterministic"]) == (
        "network",
        "cpu",
        True,
    )
    assert learner["weights"] > 100
