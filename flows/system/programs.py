"""The programs of the system, kept running by supervisor: started, asked for and stopped."""

from __future__ import annotations

import json
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

import psutil  # type: ignore[import-untyped]

from flows.system.environment import OURS, environment
from flows.system.settings import System
from tasks.errors import StageError

CONFIGURATION = Path("supervisord.conf")
SERVERS, WORKERS = ("store", "prefect", "mlflow"), ("cpu-worker", "gpu-worker:*")

PATIENCE_SECONDS = 180.0
"""How long a server may take until it answers."""
SECONDS_TO_STOP = 120.0
"""How long all programs together may take to end: workers wait for stages that keep their state."""
BROKEN = ("FATAL", "BACKOFF", "EXITED")
"""States of a program that has ended by itself, in supervisor's words."""


class Programs:
    """Supervisor, and what it runs, for one system.

    environment  of all programs
    """

    def __init__(self, system: System) -> None:
        self._system, self.environment = system, environment(system)

    def is_running(self) -> bool:
        """Tell whether supervisor runs."""
        return self._supervisor() is not None

    def compare(self) -> None:
        """Raise StageError if what runs was started with other settings."""
        file = self._launched
        if not file.exists() or file.read_text(encoding="utf-8") != self._fingerprint():
            raise StageError(
                "make up: must be given the settings that the system runs with (got others)\n"
                "next: make down, and make up again"
            )

    def launch(self) -> None:
        """Start supervisor, and the servers with it; or the servers of one that runs."""
        if self.is_running():
            self.start(*SERVERS)
            return
        command = ["supervisord", "--configuration", str(CONFIGURATION)]
        done = subprocess.run(
            command, env=self.environment, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise StageError(f"{CONFIGURATION}: supervisor must start (got {done.stderr.strip()})")
        self._launched.write_text(self._fingerprint(), encoding="utf-8")

    def start(self, *names: str) -> None:
        """Start programs that do not run; raises StageError if one does not stay up."""
        said = self._control("start", *names)
        if any("ERROR" in line and "already started" not in line for line in said.splitlines()):
            raise StageError(f"{CONFIGURATION}: each program must start (got {said.strip()})")

    @property
    def _launched(self) -> Path:
        return self._system.root / "launched"

    def _fingerprint(self) -> str:
        ours = {k: value for k, value in self.environment.items() if k.startswith(OURS)}
        return sha256(json.dumps(ours, sort_keys=True).encode()).hexdigest()

    def wait(self) -> None:
        """Return when all servers answer; raise StageError if one does not, with its last words."""
        system, deadline = self._system, time.monotonic() + PATIENCE_SECONDS
        places = {
            "store": system.s3,
            "prefect": f"{system.prefect}/api/health",
            "mlflow": f"{system.mlflow}/health",
        }
        while silent := [name for name, place in places.items() if not _answers(place)]:
            broken = [name for name in silent if self._state(name) in BROKEN]
            if broken or time.monotonic() > deadline:
                raise self._why(broken or silent)
            time.sleep(0.2)

    def shut_down(self) -> None:
        """Stop all programs and supervisor; what does not end by itself is killed.

        So is what a supervisor has left that was killed.
        """
        supervisor, left = self._supervisor(), list[psutil.Process]()
        if supervisor is not None:
            self._control("shutdown")
            _, left = psutil.wait_procs([supervisor], timeout=SECONDS_TO_STOP)
        left += self._left()
        for process in left:
            process.kill()
        psutil.wait_procs(left)

    def _left(self) -> Iterator[psutil.Process]:
        """Find what supervisor or its programs have started, also by parents that were killed."""
        return _having("SUPERVISOR_SERVER_URL", f"unix://{self.environment['VERBATIM_SOCKET']}")

    def _supervisor(self) -> psutil.Process | None:
        """Find supervisor by its environment: on a full disk it has written no file of its id."""
        for process in _having("VERBATIM_SOCKET", self.environment["VERBATIM_SOCKET"]):
            with suppress(psutil.Error):
                if "supervisord" in (Path(word).name for word in process.cmdline()):
                    return process
        return None

    def _state(self, name: str) -> str:
        words = self._control("status", name).split()
        return words[1] if len(words) > 1 else ""

    def _why(self, names: Iterable[str]) -> StageError:
        logs = [self._system.root / f"log/{name}.log" for name in names]
        said = [f"{log}: must be that of a server that answers (got {_end(log)})" for log in logs]
        return StageError(
            "\n".join([*said, "next: read it to the end; `make down` stops the rest"])
        )

    def _control(self, *words: str) -> str:
        command = ["supervisorctl", "--configuration", str(CONFIGURATION), *words]
        done = subprocess.run(
            command, env=self.environment, capture_output=True, text=True, check=False
        )
        return done.stdout


def _having(name: str, value: str) -> Iterator[psutil.Process]:
    """Find the processes with a variable of this value."""
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.environ().get(name) == value:
                yield process


def _answers(place: str) -> bool:
    try:
        urllib.request.urlopen(place, timeout=2).close()  # noqa: S310 - our own server
    except urllib.error.HTTPError as refusal:
        refusal.close()
        return refusal.code in {401, 403}  # who asks who we are is there
    except OSError:
        return False
    return True


def _end(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines() if log.exists() else []
    return lines[-1] if lines else "nothing in it"
