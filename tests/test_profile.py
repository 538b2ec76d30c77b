"""`python -m flows profile` on a table of its own, and what it would say on other machines."""

import json
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from flows import profile as shown
from tasks import devices, files, params, profile, tracking
from tasks.encoder import Dataset, Encoder
from tasks.errors import DataValidationError, StageError
from tasks.examples import Columns
from tasks.models import Models
from tasks.models.network import Network
from tasks.neural.computing import Computing
from tasks.neural.gauges import Peak, Tracker
from tasks.neural.memory import Point

ROOT = Path(__file__).parent.parent
MODELS: Models = params.read({"models": Models}, ROOT / "params.yaml")["models"]
SHIPPED: Network = MODELS.network
COLUMNS = Columns(keys=("id",), numeric=("x", "z"), categorical=("c",), target="y")
MACHINE = {"gpu": "NVIDIA T4", "gpu_driver": "999.1"}


def changed(**fields: Any) -> Network:
    return SHIPPED.model_copy(update=fields)


def examples(rows: int) -> pl.DataFrame:
    x = np.random.default_rng(rows).normal(size=(rows, 2))
    names = [["a", "b", None][row % 3] for row in range(rows)]
    return pl.DataFrame(
        {"id": range(rows), "x": x[:, 0], "z": x[:, 1], "c": names, "y": (x[:, 0] > 0).astype(int)}
    )


def leave(folder: Path) -> Path:
    for rows, part in ((900, "train"), (0, "between"), (400, "val")):
        files.write_parquet(folder / f"{part}.parquet", examples(900).tail(rows))
    (folder / "encoder.json").write_text(Encoder.fit(examples(900), COLUMNS).to_json())
    return folder


def ask(checkout: Path, environment: dict[str, str], *prefix: str) -> Any:
    return subprocess.run(
        [*(prefix or ("python", "-m", "flows", "profile"))],
        cwd=checkout,
        env={**environment, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


def recorded(checkout: Path, question: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(checkout / "mlflow.db")) as store:
        return store.execute(question).fetchall()


def test_without_a_table_it_says_what_to_type(checkout: Path, environment: dict[str, str]) -> None:
    done = ask(checkout, environment)
    assert done.returncode == 1
    assert done.stderr == (
        "DataValidationError: data/featurize: must hold your table as examples (got no "
        "encoder.json, train.parquet, between.parquet, val.parquet)\nnext: dvc repro featurize\n"
    )
    assert not (checkout / "mlflow.db").exists()


ALONE = "from flows import profile; profile.profile(); import sys; sys.exit('torch' in sys.modules)"


def test_it_estimates_shows_and_records(
    checkout: Path, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    leave(checkout / "data/featurize")
    done = ask(checkout, environment, "python", "-c", ALONE)
    assert (done.returncode, done.stderr) == (0, "")
    found = files.read_json(checkout / ".verbatim/profile/profile.json")
    assert (found["measured"], found["rows"], found["columns"]) == (False, 1300, 3)
    assert [point["rows"] for point in found["points"]] == sorted({256, 512, 1024, found["in_use"]})
    assert "ESTIMATED, since CUDA finds no GPU here" in done.stdout
    lines = done.stdout.splitlines()
    assert lines[-1] == "next               python -m flows train --set model=network"
    assert f"micro_batch_size: {SHIPPED.micro_batch_size} fits" in lines[-2]
    monkeypatch.chdir(checkout)
    key = shown.key_of(Path("data/featurize"), SHIPPED)
    runs = recorded(checkout, "SELECT name, status, run_uuid FROM runs")
    assert [run[:2] for run in runs] == [(f"profile-network-{key[:8]}", "FINISHED")]
    steps = "SELECT step, value FROM metrics WHERE key = 'profile/gpu_gib' ORDER BY step"
    assert recorded(checkout, steps) == [
        (point["rows"], point["gpu_gib"]) for point in found["points"]
    ]
    tags = dict(recorded(checkout, "SELECT key, value FROM tags"))
    assert (tags["profile"], tags["gpu"]) == ("estimated", "none")
    kept = checkout / "mlartifacts" / runs[0][2] / "artifacts"
    assert json.loads((kept / "profile.json").read_text()) == found
    assert (kept / "profile.txt").read_text().splitlines()[-1] == lines[-1]
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert tracking.find(key, experiment="churn-prediction", model_name="m", alias="a") is None


def test_what_breaks_the_measuring_is_told_and_records_nothing(
    checkout: Path, environment: dict[str, str]
) -> None:
    leave(checkout / "data/featurize")
    frame = pl.read_parquet(checkout / "data/featurize/val.parquet")
    frame.drop("x").write_parquet(checkout / "data/featurize/val.parquet")
    frame.drop("x").write_parquet(checkout / "data/featurize/train.parquet")
    frame.drop("x").write_parquet(checkout / "data/featurize/between.parquet")
    done = ask(checkout, environment)
    assert done.returncode == 1
    assert "profile: DataValidationError: column x: must be present" in done.stderr
    assert not (checkout / "mlflow.db").exists()


def test_the_name_follows_examples_and_section(tmp_path: Path) -> None:
    folder = leave(tmp_path / "featurize")
    key = shown.key_of(folder, SHIPPED)
    assert shown.key_of(leave(tmp_path / "again"), SHIPPED) == key
    assert shown.key_of(folder, changed(width=SHIPPED.width + 1)) != key
    (folder / "encoder.json").write_text("{}")
    assert shown.key_of(folder, SHIPPED) != key


def test_the_table_is_that_of_a_refit(tmp_path: Path) -> None:
    assert len(profile.table(leave(tmp_path / "featurize"))) == 1300
    (tmp_path / "featurize" / "between.parquet").unlink()
    with pytest.raises(DataValidationError, match=r"got no between\.parquet"):
        profile.table(tmp_path / "featurize")


def test_powers_of_two_and_what_is_in_use_are_tried() -> None:
    assert profile.micro_batches(1300, 1000) == [256, 512, 1000, 1024]
    assert profile.micro_batches(256, 256) == [256]
    assert profile.micro_batches(40, 40) == [40]
    assert profile.micro_batches(10**7, 512)[-1] == 2**23


@pytest.mark.parametrize(
    ("need", "precision", "names"),
    [
        (1.0, "auto", ["T4", "V100-16GB"]),
        (14.4, "auto", ["T4", "V100-16GB"]),
        (14.5, "auto", ["A10G", "L4", "RTX 4090"]),
        (1.0, "bfloat16", ["A10G", "L4", "RTX 4090"]),
        (1.0, "float16", ["T4", "V100-16GB"]),
        (70.0, "float32", ["A100-80GB", "H100"]),
        (200.0, "auto", []),
    ],
)
def test_the_smallest_type_of_gpu(need: float, precision: str, names: list[str]) -> None:
    assert profile.smallest(need, precision) == names


def test_types_of_gpu_go_from_small_to_large() -> None:
    sizes = [each.gib for each in profile.GPU_TYPES]
    assert sizes == sorted(sizes)


@pytest.mark.parametrize(
    ("batch", "micro", "processes", "fitting", "expected"),
    [
        (1024, 4096, 1, [256, 512, 1024, 2048], 4096),  # one part already: stays
        (1024, 256, 1, [256, 512, 1024, 2048], 1024),  # larger parts fit
        (1024, 256, 2, [256, 512, 1024, 2048], 512),  # of which each process has one
        (1000, 128, 3, [128, 256, 512], 334),
        (1024, 4096, 1, [256, 512], 512),  # too large
        (1024, 4096, 1, [], None),
    ],
)
def test_what_is_suggested(
    batch: int, micro: int, processes: int, fitting: list[int], expected: int | None
) -> None:
    settings = changed(batch_size=batch, micro_batch_size=micro, processes=processes)
    in_use = min(micro, -(-batch // processes))
    assert profile.suggested(settings, in_use, fitting) == expected


def test_parts_reach_the_batch_with_all_processes() -> None:
    settings = changed(batch_size=1000, processes=2)
    points = [{"rows": rows, "fits": True} for rows in (100, 256, 500, 512)]
    assert [each["parts"] for each in profile.advise(settings, 500, points)["points"]] == [
        5,
        2,
        1,
        1,
    ]


def peak(gib: float) -> Peak:
    return Peak(int(gib * 2**29), int(gib * 2**30) - 2**29, 2**29)


def measured(settings: Network, in_use: int, limit: int) -> dict[str, Any]:
    """As a GPU would answer that has room for `limit` rows."""
    points = [
        profile.point(Point(rows, peak(rows / 512), 1e5))
        for rows in (256, 512, 1024, 2048, 4096)
        if rows <= limit
    ]
    points.append(profile.point(Point(max(2 * limit, 256), None, None)))
    facts = {"measured": True, "precision": "float16", "memory_gib": 14.6}
    facts |= {"rows": 9000, "columns": 3, "table_bytes": 2**30}
    return {**facts, **profile.advise(settings, in_use, points)}


def test_a_measured_profile_says_what_fits_and_which_part_of_a_batch_it_is() -> None:
    settings = changed(batch_size=8192, micro_batch_size=4096)
    text = shown.text(measured(settings, 4096, 2048), MACHINE, "trees")
    assert "float16: measured on NVIDIA T4, driver 999.1" in text
    rows = [
        [cell.strip() for cell in line.split("│")[1:-1]]
        for line in text.splitlines()
        if line.startswith("│")
    ]
    assert rows[3] == ["2048", "4.00", "3.50", "2.00", "100,000", "yes", "4", "T4, V100-16GB"]
    assert rows[4] == ["4096", "", "", "", "", "no", "2", ""]
    command = "python -m flows train --set model=network"
    assert text.splitlines()[-3:] == [
        "largest that fits  2048 on this GPU",
        "params.yaml        micro_batch_size: 4096 does not fit (4096 rows at once)",
        f"next               {command} --set models.network.micro_batch_size=2048",
    ]


def test_a_measured_profile_of_which_nothing_fits() -> None:
    settings = changed(batch_size=8192, micro_batch_size=4096)
    end = shown.text(measured(settings, 4096, 0), MACHINE, "network").splitlines()[-3:]
    assert end[0] == "largest that fits  none on this GPU"
    assert "does not fit" in end[1]
    assert "lower width" in end[2]


def dataset(rows: int) -> Dataset:
    return Encoder.fit(examples(50), COLUMNS).encode(examples(rows))


def test_measuring_tells_its_progress(capsys: pytest.CaptureFixture[str]) -> None:
    where = Computing(torch.device("cpu"), torch.float32)
    with Tracker() as gauge:
        points = profile.measure(SHIPPED, dataset(600), [128, 256], where=where, gauge=gauge)
    assert [point["rows"] for point in points] == [128, 256]
    assert all(point["fits"] and point["gpu_gib"] > 0 for point in points)
    assert "progress 2/2 micro_batch_size=256\n" in capsys.readouterr().out


class Full(Tracker):
    """A device that has no room for anything."""

    def reset(self) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")


def test_a_table_that_does_not_fit_is_told() -> None:
    where = Computing(torch.device("cpu"), torch.float32)
    with pytest.raises(StageError, match=r"models\.network: must fit into memory"):
        profile.measure(SHIPPED, dataset(600), [128], where=where, gauge=Full())


def test_estimates_are_of_the_gpus_precision_and_of_the_processors() -> None:
    data = dataset(600)
    facts, points = profile.estimate(changed(precision="auto"), data, [256, 4096])
    assert facts["precision"] == "bfloat16"
    assert all(point["fits"] for point in points)
    full, _ = profile.estimate(changed(precision="float32"), data, [256])
    assert full["precision"] == "float32"
    assert full["row_bytes"] > facts["row_bytes"]
    _, two = profile.estimate(changed(precision="auto", processes=2), data, [256, 4096])
    assert [each["cpu_gib"] for each in two] == [2 * each["cpu_gib"] for each in points]
    assert [each["gpu_gib"] for each in two] == [each["gpu_gib"] for each in points]
    assert not profile.estimate(SHIPPED, data, [2**40])[1][0]["fits"]


def test_the_stage_measures_where_there_is_a_gpu(tmp_path: Path) -> None:
    profile.run(leave(tmp_path / "featurize"), tmp_path / "profile", models=MODELS)
    found = files.read_json(tmp_path / "profile/profile.json")
    assert found["measured"] == (devices.gpus() > 0)
    assert found["largest"] == found["points"][-1]["rows"]
