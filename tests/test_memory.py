"""What an estimate says is held against what PyTorch's own profiler saw being allocated."""

import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from torch._C._profiler import _EventType
from torch.profiler import ProfilerActivity, profile

from tasks import params
from tasks.encoder import Dataset
from tasks.errors import ParamsError
from tasks.models import Models
from tasks.models.network import Network
from tasks.neural import available, memory, training
from tasks.neural.computing import Computing
from tasks.neural.gauges import Allocator, Peak, Tracker
from tasks.neural.loss import ClassWeights
from tasks.neural.parallel import ALONE
from tasks.neural.tables import Table

ROOT = Path(__file__).parent.parent
CPU = torch.device("cpu")
SHIPPED: Network = params.read({"models": Models}, ROOT / "params.yaml")["models"].network
WIDE = SHIPPED.model_copy(update={"members": 8, "width": 96, "number_bins": 48})
SHALLOW = SHIPPED.model_copy(update={"depth": 1, "dropout": 0.0, "category_embedding": 32})
CLOSE = 1.04
"""The factor within which an estimate meets the profiler."""


def table(rows: int, *, numbers: int = 9, cardinalities: tuple[int, ...] = (5, 2000)) -> Dataset:
    draw = np.random.default_rng(rows)
    codes = [draw.integers(0, codes, rows) for codes in cardinalities]
    return Dataset(
        numeric=draw.normal(size=(rows, numbers)).astype(np.float32),
        categorical=np.array(codes, np.int32).T.reshape(rows, len(codes)),
        target=(draw.random(rows) > 0.7).astype(np.float32),
        names=tuple(f"x{number}" for number in range(numbers + len(codes))),
        cardinalities=cardinalities,
    )


def endless(rows: int) -> Dataset:
    """A table of any length that takes no memory."""
    one = table(1)
    return Dataset(
        numeric=np.broadcast_to(one.numeric, (rows, 9)),
        categorical=np.broadcast_to(one.categorical, (rows, 2)),
        target=np.broadcast_to(one.target, rows),
        names=one.names,
        cardinalities=one.cardinalities,
    )


def peak_seen_by_profiler(settings: Network, data: Dataset, rows: int, dtype: torch.dtype) -> int:
    """The most bytes that PyTorch's allocator had given out in two real steps."""
    given = Table.of(data)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        changed = settings.model_copy(update={"micro_batch_size": rows})
        begun = memory._start(changed, data, Computing(CPU, dtype))
        for number in range(2):
            begun.step(given, torch.arange(2 * rows), number=number, share=0.1)
    todo, changes = list(seen.profiler.kineto_results.experimental_event_tree()), []
    while todo:
        event = todo.pop()
        todo += event.children
        if event.tag == _EventType.Allocation:
            changes.append((event.start_time_ns, event.extra_fields.alloc_size))
    live = np.cumsum([size for _, size in sorted(changes, key=lambda change: change[0])])
    return int(live.max())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("settings", [SHIPPED, WIDE, SHALLOW], ids=["shipped", "wide", "shallow"])
@pytest.mark.parametrize("rows", [64, 1500])
def test_an_estimate_is_what_the_profiler_sees(
    settings: Network, rows: int, dtype: torch.dtype
) -> None:
    data = table(2 * rows)
    seen = peak_seen_by_profiler(settings, data, rows, dtype)
    expected = memory.estimate(settings, data, dtype).step.peak(rows)
    assert seen / CLOSE < expected < seen * CLOSE


def test_half_precision_takes_less() -> None:
    half, full = (
        memory.estimate(WIDE, table(500), dtype).step.peak(4096)
        for dtype in (torch.bfloat16, torch.float32)
    )
    assert 0.5 * full < half < 0.8 * full


def test_estimates_hold_for_numbers_or_names_alone_and_for_one_row() -> None:
    for data in (table(300, numbers=0), table(300, cardinalities=()), table(1)):
        expected = memory.estimate(SHIPPED, data, torch.float32)
        assert expected.peak(2000, scored=1) > expected.peak(200, scored=1) > 0
        assert expected.peak(1, scored=1) >= memory.COPIES * expected.weights


def test_estimates_leave_no_trace_in_random_numbers_threads_and_algorithms() -> None:
    torch.manual_seed(3)
    first = torch.rand(3)
    torch.manual_seed(3)
    before = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    memory.estimate(SHIPPED, table(50), torch.float32)
    assert torch.equal(torch.rand(3), first)
    assert (torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()) == before


def test_measured_points_are_as_estimated_and_grow() -> None:
    data, tried = table(5000), [256, 1024, 4096]
    with Tracker() as gauge:
        points = list(
            memory.measure(WIDE, data, tried, where=Computing(CPU, torch.float32), gauge=gauge)
        )
    assert [point.rows for point in points] == tried
    assert all(point.rows_per_second > 0 for point in points)
    expected = memory.estimate(WIDE, data, torch.float32)
    for rows, point in zip([256, 1024], points, strict=False):  # the last batch is no whole pair
        whole = expected.peak(rows, scored=len(data)) + memory.table_bytes(data)
        assert whole / CLOSE < point.peak.allocated < whole * CLOSE
    assert points[2].peak.allocated > points[1].peak.allocated


def test_scoring_counts_where_it_takes_more_than_a_step() -> None:
    expected = memory.estimate(WIDE, table(500), torch.float32)
    assert expected.step.peak(64) < expected.scoring.peak(8192)
    assert expected.peak(64, scored=100_000) == expected.scoring.peak(8192)
    assert expected.peak(8192, scored=100_000) == expected.step.peak(8192)


LIMITED = """
import resource, sys
sys.path[:0] = [{root!r}, {root!r} + "/tests"]
import psutil, torch, test_memory as here
from tasks.neural import memory
from tasks.neural.computing import Computing
from tasks.neural.gauges import Tracker

data = here.table(100_000)
memory.estimate(here.WIDE, data, torch.float32)
roof = psutil.Process().memory_info().vms + 300 * 2**20
resource.setrlimit(resource.RLIMIT_AS, (roof, roof))
tried = [512 << power for power in range(9)]
with Tracker() as gauge:
    where = Computing(torch.device("cpu"), torch.float32)
    for point in memory.measure(here.WIDE, data, tried, where=where, gauge=gauge):
        print(point.rows, point.peak is not None, point.rows_per_second is not None)
"""


def test_it_stops_at_the_first_that_does_not_fit() -> None:
    """The processor refuses memory as a GPU does, where a limit is set to what can be promised."""
    done = subprocess.run(
        [sys.executable, "-c", LIMITED.format(root=str(ROOT))],
        capture_output=True,
        text=True,
        check=False,
        env={"OMP_NUM_THREADS": "1", "PATH": "/usr/bin"},
    )
    lines = [line.split() for line in done.stdout.splitlines()]
    assert done.returncode == 0, done.stderr
    assert 2 <= len(lines) < 9
    assert [line[1:] for line in lines] == [["True"] * 2] * (len(lines) - 1) + [["False"] * 2]


def test_another_error_is_not_taken_for_lack_of_memory() -> None:
    where, gauge = Computing(CPU, torch.float32), Tracker()
    begun = memory._start(SHIPPED, table(64), where)
    begun.network.hidden[0] = torch.nn.Linear(3, 3)
    with pytest.raises(RuntimeError, match="must match"):
        memory._speed(begun, Table.of(table(64)), torch.arange(64), 64, gauge)


def test_a_training_that_fits_is_let_through_and_a_gpu_is_never_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    memory.check(SHIPPED, table(100), "cpu")
    memory.check(SHIPPED.model_copy(update={"width": 10**9}), table(100), "cuda")


def test_too_large_a_micro_batch_is_refused_in_words() -> None:
    greedy = SHIPPED.model_copy(update={"batch_size": 10**10, "micro_batch_size": 10**9})
    with pytest.raises(ParamsError) as told:
        memory.check(greedy, endless(10**10), "cpu")
    words = str(told.value)
    assert "micro_batch_size: must fit into memory (got 1000000000 rows at once" in words
    assert "GiB are available" in words
    assert words.endswith("next: python -m flows profile, which finds the largest that fits")


def test_only_what_is_computed_at_once_counts() -> None:
    for change in ({"batch_size": 512}, {"micro_batch_size": 512}):
        settings = SHIPPED.model_copy(
            update={"batch_size": 10**9, "micro_batch_size": 10**9, **change}
        )
        memory.check(settings, endless(10**10), "cpu")
    greedy = SHIPPED.model_copy(update={"batch_size": 10**9, "micro_batch_size": 10**9})
    memory.check(greedy, table(100), "cpu")


def test_processes_share_a_batch_and_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    assert memory.in_use(SHIPPED, 10**6, processes=1) == min(
        SHIPPED.batch_size, SHIPPED.micro_batch_size
    )
    settings = SHIPPED.model_copy(update={"batch_size": 1001, "micro_batch_size": 4096})
    assert memory.in_use(settings, 10**6, processes=2) == 501
    assert memory.in_use(settings, 3, processes=4) == 1
    row = memory.estimate(SHIPPED, table(50), torch.float32).step.per_row.max()
    some = int(0.7 * available.available() / row)
    settings = SHIPPED.model_copy(update={"batch_size": 10 * some, "micro_batch_size": some})
    memory.check(settings, endless(10**9), "cpu")
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    with pytest.raises(ParamsError, match="must fit into memory"):
        memory.check(settings, endless(10**9), "cpu")


def test_weights_that_leave_no_room_are_refused_before_they_are_made() -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ParamsError, match="lower width, members"):
        memory.check(SHIPPED.model_copy(update={"width": 10**6}), table(100), "cpu")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200 * 1024


def test_memory_is_what_the_machine_or_the_control_group_leaves(tmp_path: Path) -> None:
    def told(groups: dict[str, dict[str, Any]], membership: str) -> int:
        for folder, files in groups.items():
            (tmp_path / folder).mkdir(parents=True, exist_ok=True)
            for name, content in files.items():
                (tmp_path / folder / name).write_text(f"{content}\n")
        (tmp_path / "mine").write_text(membership)
        return available.available(tmp_path / "mine", tmp_path)

    machine = psutil.virtual_memory().available
    stat = "anon 1\ninactive_file 300"
    free = {"memory.max": "max", "memory.current": 1, "memory.stat": stat}
    assert told({"a/b": free, "a": free}, "0::/a/b\n") > 0.8 * machine
    tight = {"memory.max": 1000, "memory.current": 900, "memory.stat": stat}
    assert told({"a": tight}, "0::/a/b\n") == 400
    assert told({"": {**tight, "memory.max": 700}}, "0::/a/b\n") == 100
    assert told({"": {**tight, "memory.max": 10}}, "0::/a/b\n") == 0
    old = {
        "memory.limit_in_bytes": 50,
        "memory.usage_in_bytes": 30,
        "memory.stat": "total_inactive_file 5",
    }
    assert told({"memory/c": old}, "3:cpu:/x\n4:memory:/c\n") == 25
    assert told({}, "name with no group 1:2:/c\n") > 0.8 * machine
    assert available.available(tmp_path / "nothing", tmp_path) > 0.8 * machine


def test_a_gpu_is_read_by_its_allocator(monkeypatch: pytest.MonkeyPatch) -> None:
    """No GPU is here: what PyTorch would answer is given, under the names that it has."""
    called: list[str] = []
    answers = {
        "max_memory_allocated": 5,
        "max_memory_reserved": 7,
        "memory_reserved": 6,
        "mem_get_info": (80, 100),
        "synchronize": None,
        "reset_peak_memory_stats": None,
    }
    for name, answer in answers.items():
        assert callable(getattr(torch.cuda, name))
        monkeypatch.setattr(
            torch.cuda,
            name,
            lambda _device, name=name, answer=answer: called.append(name) or answer,
        )
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: called.append("empty_cache"))
    gauge = Allocator(torch.device("cuda", 0))
    gauge.reset()
    assert called == ["synchronize", "empty_cache", "reset_peak_memory_stats"]
    found = gauge.peak()
    assert found == Peak(allocated=5, reserved=7, outside=14)
    assert found.total == 21
    assert found.joined(Peak(9, 1, 1)) == Peak(9, 7, 14)


def test_every_gauge_follows_frees() -> None:
    with Tracker() as gauge:
        kept = torch.zeros(1000)
        gauge.reset()
        torch.zeros(5000) + 1
        view = kept.view(10, 100)[1:]
        assert gauge.peak().allocated == 44_000
        gauge.reset()
        assert torch.equal(view + 0, view)
        assert gauge.peak().allocated < 9000


def test_what_is_measured_is_the_training_itself() -> None:
    begun = memory._start(SHIPPED, table(64), Computing(CPU, torch.float32))
    assert type(begun) is training.Training
    assert begun.best
    assert begun.group is ALONE
    assert begun.weights == ClassWeights()
