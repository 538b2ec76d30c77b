"""What leads a rebuild elsewhere is kept from it, other packages are named, and why it stops."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from flows import process
from flows.process import CommandError
from flows.proof import comparing, locked, rebuild
from flows.proof.verdict import NOT_MADE, Row
from tasks.errors import StageError, TemporaryError
from tasks.lineage import Lineage

REFUSED = "GateError: not good enough"
DVC_SAYS = "ERROR: failed to reproduce 'train': failed to run: exec env python -m tasks.train"
LOCK = """\
# a comment
numpy==2.1.0 \\
    --hash=sha256:00
other-os==1.0 ; sys_platform == 'win32' \\
    --hash=sha256:00
Ruamel.Yaml==0.18 ; python_version >= '3.11' \\
    --hash=sha256:00
torch==2.13.0
"""


def test_nothing_leads_a_stage_elsewhere():
    inherited = {
        "PATH": "/bin", "AWS_ACCESS_KEY_ID": "a", "MLFLOW_TRACKING_URI": "http://here",
        "VERBATIM_CHECKPOINTS": "/kept", "PREFECT_API_URL": "http://here", "PYTHONPATH": "/mine",
        "GIT_DIR": "/repository", "DVC_SITE_CACHE_DIR": "/cache",
    }  # fmt: skip
    found = rebuild.environment(inherited, Path("/proof"))
    assert {"PATH", "AWS_ACCESS_KEY_ID"} <= found.keys()
    assert not found.keys() & (
        inherited.keys() - {"PATH", "AWS_ACCESS_KEY_ID", "DVC_SITE_CACHE_DIR"}
    )
    assert found["DVC_SITE_CACHE_DIR"] == "/proof/dvc/site"
    assert found["OPENLINEAGE_DISABLED"] == "true"


def test_packages_are_held_against_a_lock():
    found = {"numpy": "2.1.0", "ruamel-yaml": "0.18", "torch": "2.13.0+cpu", "more": "1"}
    assert locked.unlike(LOCK, found) == []
    faults = locked.unlike(LOCK, {"numpy": "2.2.0", "torch": "2.13.0"})
    assert faults == [
        "numpy: must be ==2.1.0 (got 2.2.0)",
        "Ruamel.Yaml: must be ==0.18 (got none)",
    ]


def test_this_environment_is_that_of_the_lock():
    lock = Path(__file__).parent.parent / "requirements.lock"
    assert locked.unlike(lock.read_text(), locked.installed()) == []
    assert len(locked.pinned(lock.read_text())) > 100


def test_many_packages_are_counted():
    assert locked.few([str(number) for number in range(9)])[-1] == "and 1 more packages"


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
