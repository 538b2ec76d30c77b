"""Measure what orchestration and pins cost: plain functions, `dvc repro`, the flow, side by side.

Each runs as a whole process in a clone of the committed state, in turn, ROUNDS times, so that a
change in the machine's speed meets all alike; medians are printed. A Prefect server is kept warm.

    make bench
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from tasks import files

ROUNDS = 5
ROOT = Path(__file__).parent.parent
MADE = ["lake", "ingest", "validate", "featurize", "train", "evaluate", "register"]
CACHED, CHECKS = "flow, all cached", "its stage checks"
COMMANDS = {
    "plain, unpinned": "python -m bench.plain",
    "plain functions": "env {pins} python -m bench.plain",
    "dvc repro": "dvc repro",
    "flow": "python -m flows train",
}


def main() -> None:
    """Print a line of median, least and most seconds for each way to run the pipeline."""
    with tempfile.TemporaryDirectory() as folder, server(Path(folder)) as environment:
        checkout = copy(Path(folder) / "checkout")
        seconds: dict[str, list[float]] = {name: [] for name in [*COMMANDS, CACHED, CHECKS]}
        for number in range(ROUNDS):
            for name, command in COMMANDS.items():
                forget(checkout)
                seconds[name].append(timed(command, checkout, environment))
            seconds[CACHED].append(timed(COMMANDS["flow"], checkout, environment))
            seconds[CHECKS].append(checks(checkout, environment))
            print(f"round {number + 1} of {ROUNDS}", flush=True)
    report(seconds)


def copy(target: Path) -> Path:
    """Clone the committed state."""
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(target)], check=True)
    return target


def forget(checkout: Path) -> None:
    """Remove outputs, caches and records, so that every stage must run."""
    for made in [f"data/{name}" for name in MADE] + [".dvc/cache", ".dvc/tmp", "mlartifacts"]:
        shutil.rmtree(checkout / made, ignore_errors=True)
    for store in checkout.glob("mlflow.db*"):
        store.unlink()


def timed(command: str, checkout: Path, environment: dict[str, str]) -> float:
    """Run a command to its end and give its wall seconds; stop if it fails."""
    pins = files.read_yaml(checkout / "params.yaml")["pins"]
    started = time.perf_counter()
    done = subprocess.run(
        ["/bin/sh", "-c", command.format(pins=pins)],
        cwd=checkout,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    seconds = time.perf_counter() - started
    if done.returncode:
        sys.exit(f"{command} failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return seconds


def checks(checkout: Path, environment: dict[str, str]) -> float:
    """Give the seconds that it takes to find all stages unchanged."""
    command = [sys.executable, "-m", "bench.checks"]
    done = subprocess.run(
        command, cwd=checkout, env=environment, capture_output=True, text=True, check=True
    )
    return float(done.stdout.split()[-1])


@contextlib.contextmanager
def server(folder: Path) -> Iterator[dict[str, str]]:
    """Keep a Prefect server running; give the environment that finds it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PREFECT_HOME": str(folder / "prefect"),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_API_URL": f"http://127.0.0.1:{port}/api",
    }
    command = ["prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        while process.poll() is None:
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"{environment['PREFECT_API_URL']}/health").close()
                break
            time.sleep(0.2)
        yield environment
    finally:
        process.terminate()
        process.wait()


def report(seconds: dict[str, list[float]]) -> None:
    """Print the medians, and what the flow adds to `dvc repro`."""
    print(f"{'':18}  median     min     max   (seconds, {ROUNDS} rounds, {os.cpu_count()} cores)")
    for name, values in seconds.items():
        print(f"{name:18} {statistics.median(values):7.2f} {min(values):7.2f} {max(values):7.2f}")
    pairs = [flow / dvc for flow, dvc in zip(seconds["flow"], seconds["dvc repro"], strict=True)]
    print(f"flow / dvc repro, median of the ratios: {statistics.median(pairs):.3f}")


if __name__ == "__main__":
    main()
