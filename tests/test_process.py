import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from left_behind import ROOT

from flows import process
from flows.process import CommandError

STAGE = """exec python -c "
import signal, sys, threading
signal.signal(signal.SIGTERM, {handler})
print('ready', flush=True)
threading.Event().wait(60)
"
"""
KEEPS = STAGE.format(handler="lambda *_: (print('Interrupted: kept', flush=True), sys.exit(143))")
STUBBORN = STAGE.format(handler="signal.SIG_IGN")


def run(command: str, emit=lambda _line: None) -> None:
    process.run("train", [command], folder=".", environment=dict(os.environ), emit=emit)


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        ("kill -KILL $$", "killed by SIGKILL; if memory ran out, free some and run again"),
        ("kill -TERM $$", "killed by SIGTERM"),
        ("echo 'Interrupted: kept'; exit 143", "Interrupted: kept"),
        ("echo 'MemoryError: no'; echo more; kill -KILL $$", "MemoryError: no\nmore"),
        ("echo one; exit 3", "one"),
        ("exit 3", "ended with status 3"),
    ],
)
def test_reason_is_what_the_stage_said_or_how_it_ended(command: str, reason: str):
    with pytest.raises(CommandError) as raised:
        run(command)
    assert str(raised.value) == f"train: {reason}"


class StopError(Exception):
    pass


def stop_when_ready(lines: list[str]):
    def emit(line: str) -> None:
        lines.append(line)
        if line == "ready":
            raise StopError

    return emit


def test_what_ends_the_flow_lets_the_stage_keep_its_state():
    lines: list[str] = []
    with pytest.raises(StopError):
        run(KEEPS, stop_when_ready(lines))
    assert lines == ["ready", "Interrupted: kept"]


def test_stage_that_does_not_end_is_killed(monkeypatch):
    monkeypatch.setattr(process, "GRACE_SECONDS", 0.2)
    started = time.monotonic()
    with pytest.raises(StopError):
        run(STUBBORN, stop_when_ready([]))
    assert time.monotonic() - started < 20


FLOW = """
import os, signal, sys
from flows import process
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
command, tell = sys.argv[1], lambda line: print(line, flush=True)
process.run("train", [command], folder=".", environment=dict(os.environ), emit=tell)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_to_the_flow_reaches_the_stage(tmp_path: Path, number: signal.Signals):
    """SIGTERM too raises where the flow is, as Prefect has it."""
    flow = subprocess.Popen(
        [sys.executable, "-c", FLOW, KEEPS],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    with flow:
        assert flow.stdout is not None
        assert flow.stdout.readline() == "ready\n"
        flow.send_signal(number)
        assert flow.stdout.read() == "Interrupted: kept\n"
    assert flow.returncode != 0
