"""Time questions about lineage over many recorded runs, as whole commands: import, search, print.

One run is made by the pipeline, in a clone of the committed state; the others are copies of its
rows whose outputs and newest month of data have other hashes, each with a model version of its own.

    python -m bench.lineage --runs 1000 --rounds 5
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from bench.overhead import copy
from bench.sweeps import spread

OLD, NEW = "data/lake/month=1997-03/purchases.parquet", "month=1998-06"
"""A file that all runs saw, and the data that each has with other bytes."""

MODEL = "churn-predictor"
COLUMNS = {  # of each table, what is the run's own
    "tags": "run_uuid",
    "params": "run_uuid",
    "latest_metrics": "run_uuid",
}


def main() -> None:
    """Print median, least and most seconds of each question, of a local store and of a server."""
    parser = argparse.ArgumentParser(prog="python -m bench.lineage")
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        checkout = copy(Path(folder) / "checkout")
        environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
        repro = ["dvc", "repro", "--quiet"]
        subprocess.run(repro, cwd=checkout, env=environment, check=True, stdout=subprocess.DEVNULL)
        one = multiply(checkout / "mlflow.db", given.runs)
        asked = questions(one, given.runs)
        print(f"{given.runs} runs, {given.rounds} rounds on {os.cpu_count()} cores", flush=True)
        measure("local store", asked, checkout, environment, given.rounds)
        with server(checkout) as address:
            served = {**environment, "MLFLOW_TRACKING_URI": address}
            measure("server", asked, checkout, served, given.rounds)


def questions(one: str, runs: int) -> dict[str, list[str]]:
    """Give the command lines by what they ask; `one` is a hash that a single run saw."""
    return {
        "what it descends from": [f"{MODEL}/{runs // 2}"],
        "why two differ": [f"{MODEL}/{runs // 3}", f"{MODEL}/{runs // 2}"],
        "who saw what one run saw": ["--uses", one],
        "who saw what all saw": ["--uses", OLD],
        "who saw what nobody saw": ["--uses", "0123456789abcdef"],
    }


def measure(
    name: str,
    asked: dict[str, list[str]],
    checkout: Path,
    environment: dict[str, str],
    rounds: int,
) -> None:
    """Ask every question in turn, so that the machine's speed meets all alike.

    A first round is not counted: a server has just started.
    """
    seconds: dict[str, list[float]] = {question: [] for question in asked}
    for words in asked.values():
        timed(words, checkout, environment)
    for _ in range(rounds):
        for question, words in asked.items():
            seconds[question].append(timed(words, checkout, environment))
    for question, values in seconds.items():
        print(f"  {name}: {question:26} {spread(values, 2)} s", flush=True)


def timed(words: list[str], checkout: Path, environment: dict[str, str]) -> float:
    """Ask one question; give the wall seconds of the command."""
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "flows", "lineage", *words],
        cwd=checkout,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    seconds = time.perf_counter() - started
    if done.returncode not in {0, 1} or done.stderr:
        sys.exit(f"lineage {words} failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return seconds


def multiply(store: Path, runs: int) -> str:
    """Copy the one run until there are so many; give a hash that one copy alone saw."""
    with closing(sqlite3.connect(store)) as tables, tables:
        ((first,),) = tables.execute("SELECT run_uuid FROM runs").fetchall()
        for number in range(2, runs + 1):
            copied(tables, first, run_of(number))
            add_version(tables, number)
        set_apart(tables, store, runs // 3)
        newest = "SELECT value FROM tags WHERE run_uuid = ? AND key GLOB 'content.[0-9]*'"
        texts = tables.execute(newest, (run_of(runs // 2),)).fetchall()
    lines = [line for (text,) in texts for line in text.splitlines() if NEW in line]
    return lines[0].partition(" ")[0].rpartition(",")[2]


def run_of(number: int) -> str:
    """Give the id of a copy."""
    return hashlib.md5(b"%d" % number, usedforsecurity=False).hexdigest()


def set_apart(tables: sqlite3.Connection, store: Path, number: int) -> None:
    """Give a copy artifacts of its own, made with another parameter."""
    run = run_of(number)
    ((old,),) = tables.execute("SELECT artifact_uri FROM runs WHERE run_uuid = ?", (run,))
    new = shutil.copytree(old, store.parent / "mlartifacts" / run / "artifacts")
    lock = new / "dvc.lock"
    lock.write_text(lock.read_text().replace("max_depth: 3", "max_depth: 4"))
    tables.execute("UPDATE runs SET artifact_uri = ? WHERE run_uuid = ?", (str(new), run))


def copied(tables: sqlite3.Connection, first: str, run: str) -> None:
    """Copy the rows of a run."""
    for table, own in {"runs": "run_uuid", **COLUMNS}.items():
        names = [row[1] for row in tables.execute(f"PRAGMA table_info({table})")]
        values = [":run" if name == own else name for name in names]
        tables.execute(
            f"INSERT INTO {table} SELECT {', '.join(values)} FROM {table} WHERE {own} = :first",  # noqa: S608
            {"run": run, "first": first},
        )


def add_version(tables: sqlite3.Connection, number: int) -> None:
    """Make a version of the copy, and give it a time, a name and hashes of its own."""
    run = run_of(number)
    tables.execute(
        "UPDATE runs SET name = name || ?, start_time = start_time + ? WHERE run_uuid = ?",
        (f"-{number}", number, run),
    )
    tables.execute(
        "UPDATE tags SET value = value || ? WHERE run_uuid = ? AND key = 'mlflow.runName'",
        (f"-{number}", run),
    )
    its = tables.execute(
        "SELECT key, value FROM tags WHERE run_uuid = ? AND key GLOB 'content.*'", (run,)
    ).fetchall()
    for key, text in its:
        lines = [changed(line, number) for line in text.splitlines()]
        tables.execute(
            "UPDATE tags SET value = ? WHERE run_uuid = ? AND key = ?",
            ("\n".join(lines), run, key),
        )
    for table in ("model_versions", "model_version_tags"):
        names = [row[1] for row in tables.execute(f"PRAGMA table_info({table})")]
        values = {"version": ":number", "run_id": ":run"}
        chosen = ", ".join(values.get(name, name) for name in names)
        tables.execute(
            f"INSERT INTO {table} SELECT {chosen} FROM {table} WHERE version = 1",  # noqa: S608
            {"number": number, "run": run},
        )


def changed(line: str, number: int) -> str:
    """Give outputs, and the newest month, other hashes."""
    hashes, role, rest = line.split(" ", 2)
    if role == "output" or NEW in rest:
        hashes = ",".join(marked(each, number) for each in hashes.split(","))
    return f"{hashes} {role} {rest}"


def marked(text: str, number: int) -> str:
    """Give the beginning of a hash of one run alone."""
    return hashlib.sha256(f"{text[:4]} {number}".encode()).hexdigest()[:16]


@contextlib.contextmanager
def server(checkout: Path) -> Iterator[str]:
    """Serve the store; give its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    places = ["--backend-store-uri", f"sqlite:///{checkout}/mlflow.db", "--serve-artifacts"]
    command = [sys.executable, "-m", "mlflow", "server", "--port", str(port), "--workers", "1"]
    process = subprocess.Popen(
        [*command, *places],
        cwd=checkout,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        while process.poll() is None:
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"{address}/health").close()
                break
            time.sleep(0.2)
        yield address
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait()


if __name__ == "__main__":
    main()
