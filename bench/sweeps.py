"""Measure sweeps on the shipped data: against the plain recipe, by worker, and what a trial costs.

* `recipe`: 40 trials of `trees` on one core, as whole processes: the sweep that most people write
  (`bench.recipe`), and ours; trials a minute, and the best value of each;
* `trial`: what tracking and orchestration add to a trial, on one core and on all: the seconds by
  which a sweep of more trials is longer, less those that it takes to compute them alone;
* `workers`: the same 40 trials by two workers and by one, on two cores.

What is compared runs in turn, each in a checkout in which no sweep was before. A Prefect server is
kept warm, on whatever core it likes.

    python -m bench.sweeps --only recipe trial workers --rounds 3
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

import optuna

from bench.overhead import copy, server, timed
from flows import preflight

TRIALS = 40
FEW, MANY = 20, 320
"""Trials of the two sweeps that tell what one costs: enough that their starts do not matter."""

ALONE = "taskset -c 0 "
SAME = ("sweep.sampler=random", "sweep.pruner=none")
"""With which the trials do not depend on when others have finished."""

SHORT = ("models.trees.max_rounds=4", "sweep.resamples=20")
"""With which little is computed, whose noise would hide the rest, and the winner soon weighed."""

Environment = Mapping[str, str]


def main() -> None:
    """Measure the parts that the command line names, or all."""
    parts = {"recipe": recipe, "trial": trial, "workers": workers}
    parser = argparse.ArgumentParser(prog="python -m bench.sweeps")
    parser.add_argument("--only", nargs="+", choices=parts, default=list(parts))
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, server(Path(folder)) as environment:
        checkout = copy(Path(folder) / "checkout")
        timed("dvc repro featurize", checkout, environment)
        for part in given.only:
            print(f"\n{part}, {given.rounds} rounds on {os.cpu_count()} cores", flush=True)
            parts[part](checkout, environment, given.rounds)


def recipe(checkout: Path, environment: Environment, rounds: int) -> None:
    """Compare trials a minute, and the best values, with those of the plain recipe."""
    ratios, ours, plain = [], [], []
    for number in range(rounds):
        seconds = {}
        for name in ("plain", "ours"):
            forget(checkout)
            if name == "plain":
                settle(checkout, f"seed={1997 + number}")
                timed("dvc repro featurize", checkout, environment)  # which the seed is for, too
                words = f"{ALONE}{sys.executable} -m bench.recipe {TRIALS} {number}"
                seconds[name], said = told(words, checkout, environment)
                plain.append(float(said.split("best ")[-1].split()[0]))
            else:
                seconds[name], _ = sweep(checkout, environment, f"seed={1997 + number}", alone=True)
                ours.append(best(checkout))
        ratios.append(seconds["plain"] / seconds["ours"])
        speeds = [f"{name} {60 * TRIALS / each:.1f}" for name, each in seconds.items()]
        print(f"  trials a minute: {', '.join(speeds)}", flush=True)
    print(f"  ours to plain: {spread(ratios)}")
    print(f"  best validation ROC AUC: plain {spread(plain, 5)}, ours {spread(ours, 5)}")


def trial(checkout: Path, environment: Environment, rounds: int) -> None:
    """Tell what a trial costs beside what it computes, its record in MLflow on the same core too.

    And on all cores, where a process of its own writes that record meanwhile.
    """
    for where, alone in (("one core", True), ("all cores", False)):
        costs, computed = [], []
        for _ in range(rounds):
            taken = {}
            for count in (FEW, MANY):
                forget(checkout)
                settings = (*SAME, *SHORT, f"sweep.n_trials={count}")
                taken[count], _ = sweep(checkout, environment, *settings, alone=alone)
            words = f"{ALONE if alone else ''}{sys.executable} -m bench.alone"
            _, said = told(words, checkout, environment)
            computed.append(float(said.split()[-1]))
            costs.append((taken[MANY] - taken[FEW]) / (MANY - FEW) - computed[-1])
        milliseconds = spread([1000 * cost for cost in costs], 1)
        middle = statistics.median(computed)
        print(f"  {where}: beside {middle:.3f} s computed {milliseconds} ms", flush=True)


def workers(checkout: Path, environment: Environment, rounds: int) -> None:
    """Compare the time of two workers with that of one."""
    ratios = []
    for _ in range(rounds):
        seconds = {}
        for count in (1, 2):
            forget(checkout)
            seconds[count], _ = sweep(checkout, environment, *SAME, f"sweep.workers={count}")
        ratios.append(seconds[2] / seconds[1])
        print(f"  one {seconds[1]:.1f} s, two {seconds[2]:.1f} s", flush=True)
    print(f"  two to one: {spread(ratios)}")


def sweep(
    checkout: Path, environment: Environment, *settings: str, alone: bool = False
) -> tuple[float, str]:
    """Run a sweep from its beginning; give its seconds and what it said."""
    settle(checkout, f"sweep.n_trials={TRIALS}", *settings)
    words = f"{ALONE if alone else ''}{sys.executable} -m flows sweep"
    return told(words, checkout, environment)


def settle(checkout: Path, *settings: str) -> None:
    """Write settings into the committed parameters."""
    subprocess.run(["git", "checkout", "--quiet", "params.yaml"], cwd=checkout, check=True)
    preflight.override(list(settings), checkout / "params.yaml")


def forget(checkout: Path) -> None:
    """Remove the trials and their records, ours and the recipe's."""
    for pattern in (".verbatim/sweeps*", "mlflow.db*", "recipe*.db*"):
        for found in checkout.glob(pattern):
            subprocess.run(["rm", "-r", str(found)], check=True)


def told(words: str, checkout: Path, environment: Environment) -> tuple[float, str]:
    """Run a command; give its wall seconds and what it said; stop if it fails."""
    started = time.perf_counter()
    done = subprocess.run(
        words.split(), cwd=checkout, env=environment, capture_output=True, text=True, check=False
    )
    seconds = time.perf_counter() - started
    if done.returncode:
        sys.exit(f"{words} failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return seconds, done.stdout


def trials(checkout: Path) -> list[optuna.trial.FrozenTrial]:
    """Read the trials of the one sweep that has run."""
    storage = optuna.storages.RDBStorage(f"sqlite:///{checkout}/.verbatim/sweeps.db")
    (study,) = storage.get_all_studies()
    return storage.get_all_trials(study._study_id)  # noqa: SLF001 - by this a storage knows it


def best(checkout: Path) -> float:
    """Give the best value of the sweep that has run."""
    return max(each.value for each in trials(checkout) if each.state.name == "COMPLETE")


def spread(values: list[float], digits: int = 3) -> str:
    """Give the median, the least and the most."""
    found = [statistics.median(values), min(values), max(values)]
    middle, low, high = (f"{each:.{digits}f}" for each in found)
    return f"{middle} ({low}..{high})"


if __name__ == "__main__":
    main()
