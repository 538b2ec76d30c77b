"""compose.yaml as Compose reads it: variables replaced, what is missing refused, services run."""

import contextlib
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from checkouts import ROOT

FILE = ROOT / "compose.yaml"
EXAMPLE = ROOT / ".env.example"

VARIABLE = re.compile(r"\$\{(?P<name>\w+)(?:(?P<how>:[-?])(?P<rest>[^}]*))?\}")

REQUIRED = tuple(re.findall(r"^(\w+)=$", EXAMPLE.read_text(), re.MULTILINE))
"""The variables that the example of `.env` leaves for you to fill in."""


PATIENCE_SECONDS = 240
SECONDS_TO_STOP = 30
BIN = Path(sys.executable).parent
SECRETS = {name: f"{name.lower()}-of'a@test:/?#%" for name in REQUIRED} | {
    "S3_ACCESS_KEY": "access-of-a-test",
    "S3_SECRET_KEY": "secret-of-a-test",
}


class MissingVariableError(Exception):
    """A variable that must be set is not, or is empty."""


def raw() -> dict[str, Any]:
    """What the file says, anchors and merges resolved."""
    return yaml.safe_load(FILE.read_text())


def filled_in(value: Any, variables: Mapping[str, str]) -> Any:
    """Replace variables, in whatever the file holds."""
    if isinstance(value, dict):
        return {key: filled_in(each, variables) for key, each in value.items()}
    if isinstance(value, list):
        return [filled_in(each, variables) for each in value]
    if not isinstance(value, str):
        return value

    def replace(found: re.Match[str]) -> str:
        if told := variables.get(found["name"]):
            return told
        if found["how"] == ":?":
            raise MissingVariableError(f"{found['name']}: {found['rest']}")
        return found["rest"] or ""

    return VARIABLE.sub(replace, value)


def used(value: Any) -> list[tuple[str, str]]:
    """The variables in whatever the file holds, with what follows the name."""
    if isinstance(value, dict):
        return [each for inner in value.values() for each in used(inner)]
    if isinstance(value, list):
        return [each for inner in value for each in used(inner)]
    found = VARIABLE.finditer(value) if isinstance(value, str) else ()
    return [(each["name"], each["how"] or "") for each in found]


class System:
    """What compose.yaml says of each service, with the addresses of this test."""

    def __init__(self, folder: Path, places: dict[str, str]) -> None:
        self.folder, self._places = folder, places
        self._file = filled_in(raw(), SECRETS)

    def text(self, value: str) -> str:
        """Give a text with this test's addresses, files and folders."""
        for said, here in self._places.items():
            value = value.replace(said, here)
        return value

    def __getitem__(self, service: str) -> dict[str, Any]:
        return json.loads(self.text(json.dumps(self._file["services"][service])))

    def environment(self, service: str) -> dict[str, str]:
        """Give the variables of a service, and nothing of the user's."""
        told = {"PATH": f"{BIN}:{os.environ['PATH']}", "HOME": str(self.folder)}
        return {**told, **self[service].get("environment", {})}

    @contextlib.contextmanager
    def running(self, service: str) -> Iterator[Path]:
        """Run a service until it is healthy; give its log's path; stop it as Compose does."""
        log = self.folder / f"{service}.log"
        with log.open("w") as lines:
            process = subprocess.Popen(
                shlex.split(self[service]["command"]),
                cwd=ROOT,
                env=self.environment(service),
                stdout=lines,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            self._wait(service, process, log)
            yield log
        finally:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(SECONDS_TO_STOP)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def _wait(self, service: str, process: subprocess.Popen[bytes], log: Path) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while process.poll() is None and time.monotonic() < deadline:
            if self.is_healthy(service):
                return
            time.sleep(0.3)
        pytest.fail(f"{service} is not healthy:\n{log.read_text()[-3000:]}")

    def is_healthy(self, service: str) -> bool:
        """Run a service's own check."""
        check = self[service]["healthcheck"]
        with contextlib.suppress(subprocess.TimeoutExpired):
            done = subprocess.run(
                check["test"][1:],
                env=self.environment(service),
                capture_output=True,
                timeout=int(check["timeout"].removesuffix("s")),
                check=False,
            )
            return done.returncode == 0
        return False
