"""Measure both learners on a GPU, on a synthetic table of 10 million rows and 50 columns.

It needs no more than Python, PyTorch, NumPy, Polars and XGBoost, and so runs on a bare GPU machine
with this repository's files. It prints a line of JSON for each measurement and tables at the end.
What fails is told in its place, and the rest goes on.

* `network`  rows per second by precision, batch, determinism and torch.compile; peak memory with
             the table; the share of time in which the driver saw the GPU busy
* `kernels`  what PyTorch's profiler saw of some steps
* `training` a whole training of one epoch, from the arrays to a network that can be used
* `loader`   small batches against a plain loop with a `DataLoader`
* `bytes`    whether the same seed gives the same bytes, also when it was cut off in between
* `memory`   growing micro-batches until memory runs out
* `xgboost`  `cuda` against the processor's `hist`

    python -m bench.gpu
    python -m bench.gpu --only network bytes --rows 1000000 --seconds 3
    python -m bench.gpu --device cpu
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterable
from typing import Any

import torch

from bench.gpu import card, network, repeated, synthetic, trees
from bench.gpu.measuring import Bench, Facts

PARTS = {
    "network": network.speeds,
    "kernels": network.kernels,
    "training": network.whole,
    "loader": network.against_loader,
    "bytes": repeated.same_bytes,
    "memory": network.growing,
    "xgboost": trees.against_processor,
}
SEED = 1997
DEFAULTS = {"cuda": (10_000_000, 5.0), "cpu": (20_000, 0.3)}
"""Rows, and seconds that a speed is measured for."""


def main() -> None:
    """Measure the parts that the command line names, or all."""
    given = arguments()
    if given.device == "cuda" and not torch.cuda.is_available():
        sys.exit("PyTorch finds no GPU; next: python -m bench.gpu --device cpu, which tries it out")
    rows, seconds = DEFAULTS[given.device]
    started, device = time.perf_counter(), torch.device(given.device, 0)
    told: list[Facts] = []
    tell(told, "card", "", card.describe(device))
    data = synthetic.table(given.rows or rows, seed=SEED)
    made = {"rows": len(data), "columns": len(data.names), "seconds": time.perf_counter() - started}
    tell(told, "table", "", made)
    bench = Bench(device, data, given.seconds or seconds, given.limit + started)
    for part in given.only:
        measure(bench, part, told)
    print_tables(told)


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.gpu")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--device", choices=DEFAULTS, default="cuda")
    parser.add_argument("--rows", type=int, help="of the table")
    parser.add_argument("--seconds", type=float, help="that a speed is measured for")
    parser.add_argument("--limit", type=float, default=500, help="seconds after which none starts")
    return parser.parse_args()


def measure(bench: Bench, part: str, told: list[Facts]) -> None:
    """Take the measurements of a part; one that fails tells why."""
    for name, work in PARTS[part](bench).items():
        if time.perf_counter() > bench.deadline:
            tell(told, part, name, {"skipped": "out of time, see --limit"})
            continue
        try:
            found: Iterable[Facts] = work()
            for facts in found:
                tell(told, part, name, facts)
        except Exception as error:  # noqa: BLE001 - whatever it is, the others can be measured
            tell(told, part, name, {"error": f"{type(error).__name__}: {str(error)[:300]}"})
        if bench.device.type == "cuda":
            torch.cuda.empty_cache()


def tell(told: list[Facts], part: str, name: str, facts: Facts) -> None:
    """Print a measurement, and remember it."""
    told.append({"part": part, "name": name, **facts})
    print(json.dumps(told[-1]), flush=True)


def print_tables(told: list[Facts]) -> None:
    """Print what was told once more, a table for each part."""
    for part in dict.fromkeys(facts["part"] for facts in told):
        rows = [facts for facts in told if facts["part"] == part]
        columns = list(dict.fromkeys(name for facts in rows for name in facts if name != "part"))
        cells = [columns, *([shown(facts.get(name, "")) for name in columns] for facts in rows)]
        widths = [max(len(row[number]) for row in cells) for number in range(len(columns))]
        print(f"\n{part}")
        for row in cells:
            print(" ", *(f" {cell:{width}}" for cell, width in zip(row, widths, strict=True)))


def shown(value: Any) -> str:
    """Write a value with four digits that count."""
    if not isinstance(value, float):
        return str(value)
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"  # noqa: PLR2004


if __name__ == "__main__":
    main()
