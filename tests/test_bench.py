"""What is measured is what it says; figures are no tests."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from left_behind import TREES as SHALLOW
from test_network import NETWORK
from test_trees import TEST, TRAIN, VAL

from bench import learners, loops, proof, timing
from bench.gpu import __main__ as gpu
from bench.gpu import network, synthetic
from bench.gpu.measuring import Bench
from tasks.checkpoints import NOWHERE
from tasks.models.trees import Trees
from tasks.neural import architecture, computing
from tasks.neural.tables import Table

ROOT = Path(__file__).parent.parent

BARE = """
import runpy, sys
from importlib.machinery import BuiltinImporter, FrozenImporter, PathFinder

NEEDED = {"torch", "torchgen", "functorch", "numpy", "polars", "_polars_runtime_32", "xgboost"}
THEIRS = {"scipy", "typing_extensions", "sympy", "mpmath"}  # which these four cannot do without
OURS = {"bench", "tasks"}
ALLOWED = NEEDED | THEIRS | OURS | sys.stdlib_module_names

class Bare:
    def find_spec(name, path=None, target=None):
        top = name.partition(".")[0]
        if top in ALLOWED or top.startswith("_sysconfigdata"):
            return PathFinder.find_spec(name, path, target)

sys.meta_path[:] = [BuiltinImporter, FrozenImporter, Bare]
try:
    import pydantic
except ModuleNotFoundError:
    sys.argv[1:] = "--device cpu --rows 6000 --seconds 0.05".split()
    runpy.run_module("bench.gpu", run_name="__main__")
"""


def test_the_script_for_gpus_runs_on_a_bare_machine() -> None:
    done = subprocess.run(
        [sys.executable, "-c", BARE], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    told = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert not [facts for facts in told if "error" in facts or "skipped" in facts]
    parts = {part: [facts for facts in told if facts["part"] == part] for part in gpu.PARTS}
    assert [part for part, found in parts.items() if not found] == ["kernels"], "of a GPU alone"
    for facts in parts["bytes"]:
        assert facts["same_again"], facts
        assert facts["same_when_taken_up"], facts
        assert facts["stopped_in_epoch"] == 1, "it was cut off indeed"
    hashes = {facts["sha256"] for facts in parts["xgboost"] if "sha256" in facts}
    assert len(hashes) == 1
    table = done.stdout.partition("\nxgboost\n")[2].splitlines()
    assert table[0].split()[:3] == ["name", "rows", "seconds"]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so() -> None:
    command = [sys.executable, "-m", "bench.gpu"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("PyTorch finds no GPU; next: python -m bench.gpu --device cpu")


def bench(deadline: float = float("inf")) -> Bench:
    return Bench(torch.device("cpu"), synthetic.table(100, seed=1), 0.0, deadline)


def test_a_measurement_that_fails_is_told_and_the_rest_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fails():
        yield {"found": 1}
        raise RuntimeError("out of luck")

    works = {"one": fails, "other": lambda: [{"found": 2}]}
    monkeypatch.setitem(gpu.PARTS, "network", lambda _bench: works)
    told: list[dict[str, object]] = []
    gpu.measure(bench(), "network", told)
    assert told == [
        {"part": "network", "name": "one", "found": 1},
        {"part": "network", "name": "one", "error": "RuntimeError: out of luck"},
        {"part": "network", "name": "other", "found": 2},
    ]


def test_after_the_deadline_nothing_starts() -> None:
    told: list[dict[str, object]] = []
    gpu.measure(bench(deadline=0), "training", told)
    assert [facts["skipped"] for facts in told] == ["out of time, see --limit"]


def test_the_settings_are_those_of_the_learner() -> None:
    ours = set(vars(network.LARGE))
    assert ours == set(type(NETWORK).model_fields) - {"device", "processes"}


def test_a_synthetic_table_has_nulls_and_tells_the_target() -> None:
    data = synthetic.table(3000, seed=1)
    assert data.numeric.shape == (3000, 45)
    assert data.categorical.shape == (3000, 5)
    assert 0.01 < np.isnan(data.numeric).mean() < 0.03
    assert np.all(data.categorical.max(axis=0) < data.cardinalities)
    assert np.array_equal(np.unique(data.target), [0, 1])
    assert np.corrcoef(np.nan_to_num(data.numeric[:, 0]), data.target)[0, 1] > 0.1
    again = synthetic.table(3000, seed=1)
    assert np.array_equal(again.numeric, data.numeric, equal_nan=True)


def test_trees_are_measured_against_the_same_trees() -> None:
    settings = Trees.model_validate(SHALLOW | {"max_rounds": 20})
    fitted = settings.fit(
        settings.prepare(TRAIN, VAL), seed=3, report=lambda _, __: None, checkpoints=NOWHERE
    )
    bare = learners._bare_trees(settings, TRAIN, VAL, seed=3)
    assert bare == bytes(fitted.booster.save_raw("ubj"))


def test_the_plain_loop_sees_every_row_once_and_learns() -> None:
    table = Table.of(TRAIN)
    network, _ = architecture.build(NETWORK, TRAIN, seed=1)
    batches = loops.loader(table, 64)
    seen = torch.cat([numeric for numeric, _, _ in batches])
    assert torch.equal(seen.nan_to_num().sort(0)[0], table.numeric.nan_to_num().sort(0)[0])
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.01)
    before = loops.validation(network, Table.of(TEST))
    for _ in range(3):
        loops.plain_epoch(network, batches, optimizer)
    assert loops.validation(network, Table.of(TEST)) < before


def test_the_bare_loop_learns_too() -> None:
    network, _ = architecture.build(NETWORK, TRAIN, seed=1)
    val = Table.of(VAL)
    before = loops.validation(network, val)
    with computing.settled(threads=1):
        assert loops.bare_network(network, NETWORK, Table.of(TRAIN), val) < 0.9 * before


def test_works_are_done_in_turn_from_another_one_on() -> None:
    done: list[str] = []
    works = {name: lambda name=name: done.append(name) for name in "abc"}
    taken = timing.in_turn(works, rounds=3)
    assert "".join(done) == "abcbcacab"
    assert [len(each) for each in taken.values()] == [3, 3, 3]


def test_a_ratio_is_that_of_the_rounds() -> None:
    one = [timing.Seconds(wall, 1.0) for wall in (2.0, 30.0, 8.0)]
    other = [replace(each, wall=wall) for each, wall in zip(one, (1.0, 10.0, 2.0), strict=True)]
    assert timing.ratios(one, other) == " 3.000 (2.000..4.000)  processor  1.000"


def test_a_proof_is_held_against_its_bound() -> None:
    told = proof.told({proof.REPRO: [40.0, 50.0, 60.0], proof.PROVE: [69.0, 70.0, 71.0]})
    assert told[-1] == "ratio 1.40; within the bound of 1.2 x and 10 s: 70.0 s"
    assert "beyond" in proof.told({proof.REPRO: [50.0], proof.PROVE: [70.1]})[-1]
