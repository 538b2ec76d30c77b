"""Time `prove` against what it does at least: a cold `dvc repro` of the same commit.

Both run as whole processes in a clone of the committed state, in turn, so that a change in the
machine's speed meets both alike. The bound is 1.2 times the `dvc repro`, and 10 s.

    python -m bench.proof --rounds 3
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
from pathlib import Path

from bench.overhead import copy, forget, server, timed
from bench.sweeps import spread

REPRO, PROVE = "dvc repro", "python -m flows prove churn-predictor/1"
FACTOR, SECONDS = 1.2, 10.0


def main() -> None:
    """Print median, least and most seconds of both, their ratio, and the bound."""
    parser = argparse.ArgumentParser(prog="python -m bench.proof")
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    print(f"{rounds} rounds on {os.cpu_count()} cores", flush=True)
    seconds: dict[str, list[float]] = {REPRO: [], PROVE: []}
    with tempfile.TemporaryDirectory() as folder, server(Path(folder)) as environment:
        checkout = copy(Path(folder) / "checkout")
        for _ in range(rounds):
            forget(checkout)
            for command, found in seconds.items():
                found.append(timed(command, checkout, environment))
    print("\n".join(told(seconds)))


def told(seconds: dict[str, list[float]]) -> list[str]:
    """Give the lines of the report."""
    repro, prove = (statistics.median(seconds[command]) for command in (REPRO, PROVE))
    bound = FACTOR * repro + SECONDS
    verdict = "within" if prove <= bound else "beyond"
    what = f"{verdict} the bound of {FACTOR} x and {SECONDS:g} s: {bound:.1f} s"
    return [
        *(f"{command}: {spread(found, 1)} s" for command, found in seconds.items()),
        f"ratio {prove / repro:.2f}; {what}",
    ]


if __name__ == "__main__":
    main()
