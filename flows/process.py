"""Run a stage's command as a process of its own, and tell how it ended."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from tasks.errors import StageError

ERROR = re.compile(r"^(\w+Error|Interrupted): ")
"""How the message begins that a stage ends with."""
LONGEST_MESSAGE, SHORT_TAIL = 2000, 5
HERE = Path(sys.executable)
GRACE_SECONDS = 20.0
"""How long a stage may take to keep its state, when it is stopped: Prefect gives the flow 30."""
IDLE = threading.Event()
"""Set while no command of this process runs."""
IDLE.set()
SHELL_SIGNAL = 128
"""What a shell adds to the number of the signal that ended its command."""


class CommandError(StageError):
    """A stage's command ended with a status other than zero.

    status  exit status, negative or above 128 if a signal ended it
    """

    def __init__(self, stage: str, status: int, lines: list[str]) -> None:
        self.stage, self.status, self.lines = stage, status, lines
        super().__init__(f"{stage}: {self.reason}")

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.stage, self.status, self.lines)

    @property
    def kind(self) -> str | None:
        """The class of the error that the stage printed; None if it printed none."""
        found = self.lines and ERROR.match(self.lines[0])
        return found[1] if found else None

    @property
    def killed(self) -> bool:
        """Whether a signal ended the command, as the out-of-memory killer does."""
        return self.signal in signal.valid_signals()

    @property
    def signal(self) -> int:
        """The number of the signal that ended the command, if it was one."""
        return -self.status if self.status < 0 else self.status - SHELL_SIGNAL

    @property
    def reason(self) -> str:
        """The error the stage printed, or how its process ended."""
        if self.killed and not self.kind:
            name = signal.Signals(self.signal).name
            memory = "; if memory ran out, free some and run again"
            return f"killed by {name}" + (memory if self.signal == signal.SIGKILL else "")
        lines = self.lines if self.kind else self.lines[-SHORT_TAIL:]
        return "\n".join(lines) or f"ended with status {self.status}"


def run(
    stage: str,
    commands: list[str],
    *,
    folder: str,
    environment: Mapping[str, str],
    emit: Callable[[str], None],
    python: Path = HERE,
) -> None:
    """Run shell commands in turn with a Python first on the path; `emit` gets each line.

    python  of the environment to run in: this one, unless another is named

    Raises CommandError for the first that fails.
    """
    search = [str(python.parent), environment.get("PATH", "")]
    settings = {**environment, "PATH": os.pathsep.join(search), "PYTHONUNBUFFERED": "1"}
    signal.siginterrupt(signal.SIGINT, True)  # since Polars was imported, Ctrl-C would wait
    for command in commands:
        status, lines = _run(command, folder, settings, emit)
        if status:
            raise CommandError(stage, status, lines)


def pin(pins: str) -> dict[str, str]:
    """Have numeric libraries choose the instructions here that they choose in stages; give how."""
    settings = dict(word.partition("=")[::2] for word in shlex.split(pins))
    os.environ.update(settings)
    return settings


def _run(
    command: str, folder: str, environment: Mapping[str, str], emit: Callable[[str], None]
) -> tuple[int, list[str]]:
    """Give the exit status, and what was printed from the last error message on.

    The command has a process group of its own, and nothing of it outlives this call: whatever
    ends the call early, a signal to this process or an error, stops the command first.
    """
    lines: deque[str] = deque(maxlen=LONGEST_MESSAGE)
    with subprocess.Popen(
        ["/bin/sh", "-c", command],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    ) as process:
        IDLE.clear()
        try:
            for line in process.stdout or []:
                if ERROR.match(line):
                    lines.clear()
                lines.append(line.rstrip("\n"))
                emit(lines[-1])
            return process.wait(), list(lines)
        finally:
            if process.poll() is None:
                _stop(process, emit)
            IDLE.set()


def _stop(process: subprocess.Popen[str], emit: Callable[[str], None]) -> None:
    """Have the process group end, in time to keep its state; or end it, if asked again."""
    try:
        os.killpg(process.pid, signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            for line in process.communicate(timeout=GRACE_SECONDS)[0].splitlines():
                emit(line)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
