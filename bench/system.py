"""Measure the whole system of `make up` in clones of the committed state.

* `up`: seconds until a system that was never started is ready, and is again; processes that `down`
  leaves;
* `click`: from the press of *Submit* to the first line of the first stage, by Prefect's own log, on
  a warm system;
* `four`: four runs started at once, and the same four one by one on a system of their own: whether
  all complete, with the same hashes.

    python -m bench.system --only up click four --rounds 3
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import psutil

from bench.overhead import copy
from bench.sweeps import spread

PORTS = {"PREFECT_PORT": 24200, "MLFLOW_PORT": 25000, "S3_PORT": 28333}
FINAL = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}
DEPTHS = (2, 4, 5, 6)


def main() -> None:
    """Measure the parts that the command line names, or all."""
    parts = {"up": up, "click": click, "four": four}
    parser = argparse.ArgumentParser(prog="python -m bench.system")
    parser.add_argument("--only", nargs="+", choices=parts, default=list(parts))
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    for part in given.only:
        print(f"\n{part}, {given.rounds} rounds on {os.cpu_count()} cores", flush=True)
        parts[part](given.rounds)


def up(rounds: int) -> None:
    """Time the first start and the second, and count what is left."""
    first, again, ends, left = [], [], [], 0
    for _ in range(rounds):
        with system() as checkout:
            first.append(timed("up", checkout))
            ends.append(timed("down", checkout))
            left += remaining(checkout)
            again.append(timed("up", checkout))
    print(f"  first start {spread(first, 1)} s, again {spread(again, 1)} s")
    print(f"  stop {spread(ends, 1)} s, processes left {left}")


def click(rounds: int) -> None:
    """Time the way from the form to the first stage, on a system that has run it before."""
    seconds = []
    with system() as checkout:
        timed("up", checkout)
        finished(trigger({}))
        for number in range(rounds):
            pressed = time.time()
            run = trigger({"seed": number})
            seconds.append(first_line(run) - pressed)
            finished(run)
    print(f"  from click to the first line {spread(seconds, 2)} s")


def four(rounds: int) -> None:
    """Compare runs side by side with the same ones alone."""
    for _ in range(rounds):
        found = []
        for at_once in (True, False):
            with system() as checkout:
                timed("up", checkout)
                started, runs = time.perf_counter(), []
                for depth in DEPTHS:
                    runs.append(trigger({"models": {"trees": {"max_depth": depth}}}))
                    if not at_once:
                        finished(runs[-1])
                states = [finished(run) for run in runs]
                seconds = time.perf_counter() - started
                found.append({state["name"]: lock(checkout, state["name"]) for state in states})
            words = "at once" if at_once else "one by one"
            done = sum(state["state_type"] == "COMPLETED" for state in states)
            print(f"  {words}: {done} of {len(runs)} complete in {seconds:.0f} s", flush=True)
        print(f"  same names and hashes: {found[0] == found[1]}")


@contextlib.contextmanager
def system() -> Iterator[Path]:
    """Give a clone in which a system can be started; it is stopped at the end."""
    with tempfile.TemporaryDirectory() as folder:
        checkout = copy(Path(folder) / "checkout")
        try:
            yield checkout
        finally:
            timed("down", checkout)


def timed(verb: str, checkout: Path) -> float:
    """Start or stop the system; give the seconds; end the program if it fails."""
    settings = {f"VERBATIM_{name}": str(port) for name, port in PORTS.items()}
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "flows", verb],
        cwd=checkout,
        env={**os.environ, **settings, "PATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.exit(f"{verb} failed: {done.stdout[-2000:]}{done.stderr[-2000:]}")
    return time.perf_counter() - started


def remaining(checkout: Path) -> int:
    """Count the processes of a system."""
    folder, found = str(checkout / ".verbatim/system"), 0
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            found += process.environ().get("VERBATIM_FOLDER") == folder
    return found


def ask(path: str, body: object = None) -> Any:
    """Ask Prefect's server."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{PORTS['PREFECT_PORT']}/api/{path}",
        data=None if body is None else json.dumps(body).encode(),
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


def trigger(overrides: dict[str, Any]) -> str:
    """Start a run as the form does; give its id."""
    deployment = ask("deployments/name/training/manual")["id"]
    body = {"parameters": {"overrides": overrides}, "state": {"type": "SCHEDULED"}}
    return str(ask(f"deployments/{deployment}/create_flow_run", body)["id"])


def finished(run: str) -> dict[str, Any]:
    """Wait for the end of a run."""
    while (state := ask(f"flow_runs/{run}"))["state_type"] not in FINAL:
        time.sleep(0.5)
    return dict(state)


def first_line(run: str) -> float:
    """Wait for the first line that a stage has logged; give its time."""
    wanted = {"logs": {"flow_run_id": {"any_": [run]}}, "sort": "TIMESTAMP_ASC"}
    while not (lines := [line for line in ask("logs/filter", wanted) if line["task_run_id"]]):
        time.sleep(0.2)
    return datetime.fromisoformat(lines[0]["timestamp"]).timestamp()


def lock(checkout: Path, name: str) -> str:
    """Give the dvc.lock of an experiment."""
    show = ["git", "for-each-ref", "--format=%(refname)", "refs/exps"]
    refs = subprocess.run(show, cwd=checkout, capture_output=True, text=True, check=True).stdout
    (ref,) = [each for each in refs.split() if each.endswith(f"/{name}")]
    words = ["git", "show", f"{ref}:dvc.lock"]
    return subprocess.run(words, cwd=checkout, capture_output=True, text=True, check=True).stdout


if __name__ == "__main__":
    main()
