"""Compute again the trials of the sweep that has run here, and print their mean seconds.

python -m bench.alone
"""

from __future__ import annotations

import statistics
from pathlib import Path

import optuna

from flows import preflight
from flows.graph import Graph
from flows.sweep.plan import plan
from flows.sweep.trial import Bench, Order, read


def main() -> None:
    """Prepare the data once, and train with the parameters of each trial."""
    planned = plan(preflight.check(needed=("sweep",)), Graph().lineage().causes)
    conditions = planned.conditions
    study = optuna.load_study(study_name=conditions.study, storage=conditions.storage)
    bench = Bench(conditions, read(Path("data/featurize")))
    orders = [Order(each.params, None) for each in study.trials]
    print(statistics.mean(bench.compute(order, lambda: False).seconds for order in orders))


if __name__ == "__main__":
    main()
