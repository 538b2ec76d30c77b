"""How a rebuild that stops is told: the model is at fault, or the machine, or it stopped then."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from flows import process
from flows.process import CommandError
from flows.proof import comparing, rebuild
from flows.proof.verdict import NOT_MADE, Row
from tasks.errors import StageError, TemporaryError
from tasks.lineage import Lineage

REFUSED = "GateError: not good enough"
DVC_SAYS = "ERROR: failed to reproduce 'train': failed to run: exec env python -m tasks.train"


@dataclass(frozen=True)
class Claimed:
    """As much of a claim as a rebuild asks for."""

    gate: dict[str, Any]
    lineage: Lineage = field(default_factory=lambda: Lineage({"train": {"params": {}}}, {}))


@pytest.mark.parametrize(
    ("status", "lines"),
    [
        (255, [f"{DVC_SAYS}, exited with -9"]),
        (255, [f"{DVC_SAYS}, exited with 137"]),
        (255, [f"{DVC_SAYS}, exited with 143"]),
        (137, ["Killed"]),
        (-15, []),
        (255, ["OSError: [Errno 28] No space left on device", DVC_SAYS]),
        (255, ["MemoryError: ", f"{DVC_SAYS}, exited with 1"]),
        (255, ["MemoryError", f"{DVC_SAYS}, exited with 1"]),
        (255, ["_ArrayMemoryError: Unable to allocate 3 GiB", f"{DVC_SAYS}, exited with 1"]),
        (255, ["torch.OutOfMemoryError: CUDA out of memory.", f"{DVC_SAYS}, exited with 1"]),
        (255, ["XGBoostError: bad_alloc: Out of memory", f"{DVC_SAYS}, exited with 1"]),
        (255, ["Interrupted: train: was stopped", f"{DVC_SAYS}, exited with 143"]),
        (255, ["ERROR: unable to lock"]),
    ],
)
def test_what_the_machine_is_to_blame_for_is_no_verdict(status: int, lines: list[str]):
    with pytest.raises(StageError, match=r"^prove: "):
        rebuild._failure(CommandError("prove", status, lines))


def test_a_store_that_is_away_is_no_verdict():
    with pytest.raises(TemporaryError):
        rebuild._failure(CommandError("prove", 255, ["TemporaryError: s3://lake", DVC_SAYS]))


@pytest.mark.parametrize(
    "lines",
    [
        ["ValueError: no such column", f"{DVC_SAYS}, exited with 1"],
        ["DataValidationError: data: must hold", f"{DVC_SAYS}, exited with 65"],
        [f"{DVC_SAYS}, exited with 1"],
        [f"{DVC_SAYS}, exited with 127"],
    ],
)
def test_a_stage_that_fails_of_itself_is_told(lines: list[str]):
    assert rebuild._failure(CommandError("prove", 255, lines)) == "\n".join(lines)


@pytest.mark.parametrize(
    ("gate", "refusing", "told"),
    [
        ({"passed": False}, "register", ""),
        ({"passed": False}, "train", REFUSED),
        ({"passed": True}, "register", REFUSED),
        ({}, "register", REFUSED),
    ],
)
def test_the_gate_may_refuse_what_it_is_recorded_to_have_refused(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    gate: dict[str, bool],
    refusing: str,
    told: str,
):
    def run(stage: str, commands: list[str], **_: object) -> None:
        if commands[0].endswith(refusing):
            raise CommandError(stage, 255, [REFUSED])

    monkeypatch.setattr(process, "run", run)
    made = rebuild.run(tmp_path, Claimed(gate), print, python=process.HERE, place=tmp_path)
    assert made.failure == told


def test_an_output_that_was_not_made_differs():
    rows = [Row("train", "data/train", "1", "1"), Row("evaluate", "data/evaluate", "2", NOT_MADE)]
    assert comparing.not_made(rows) == ["evaluate has not made data/evaluate"]
