"""Answer what memory the learner `network` takes on your table, and record the answer in MLflow.

A question, not a flow: there is nothing to schedule or to try again, and Prefect takes seconds. The
measuring is a process of its own, as every use of PyTorch is.

    python -m flows profile
"""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from flows import preflight, process
from tasks import environment, files, record, store, tracking
from tasks import profile as profiling
from tasks.models.network import Network

FEATURIZED = Path("data/featurize")
PROFILED = Path(".verbatim/profile")

MEASURED = {
    "rows at once": "rows",
    "GPU GiB": "gpu_gib",
    "reserved": "reserved_gib",
    "allocated": "allocated_gib",
    "rows/s": "rows_per_second",
    "fits": "fits",
    "parts of a batch": "parts",
    "smallest GPU type": "gpus",
}
ESTIMATED = {
    "rows at once": "rows",
    "GPU GiB": "gpu_gib",
    "smallest GPU type": "gpus",
    "processor GiB": "cpu_gib",
    "fits here": "fits",
    "parts of a batch": "parts",
}
"""Columns of the table that is shown, and the field of a point that each shows."""


def profile() -> None:
    """Measure or estimate, record and show it.

    Raises DataValidationError if `featurize` has not run, StageError if the measuring fails.
    """
    values = preflight.check()
    profiling.check(FEATURIZED)
    settings = values["models"].network
    key, machine = key_of(FEATURIZED, settings), environment.describe()
    found = _ask()
    shown = text(found, machine, values["model"])
    print(shown, end="")
    with (
        tracking.alone(),
        store.reachable(),
        tracking.recording(
            f"profile-network-{key[:8]}",
            experiment=values["register"].experiment,
            key=f"profile-{key}",  # which no training has: this run is not one's result
            tags={"profile": "measured" if found["measured"] else "estimated", **machine},
        ) as run,
    ):
        run.values(parameters(settings, found), points(found))
        run.json("profile.json", found)
        run.text("profile.txt", shown)


def key_of(featurize_folder: Path, settings: Network) -> str:
    """Hash what is profiled: the examples, and the section of params.yaml."""
    paths = sorted(path for path in featurize_folder.rglob("*") if path.is_file())
    facts = [record.digest("sha256", paths), settings.model_dump(mode="json")]
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _ask() -> dict[str, Any]:
    """Run the measuring; give what it wrote."""
    command = f"exec python -m tasks.profile {FEATURIZED} {PROFILED}"
    process.run("profile", [command], folder=".", environment=os.environ, emit=_tell)
    return dict(files.read_json(PROFILED / "profile.json"))


def _tell(line: str) -> None:
    """Print progress; an error is told by what is raised."""
    if line.startswith("progress "):
        print(line, flush=True)


def parameters(settings: Network, found: dict[str, Any]) -> dict[str, Any]:
    """Give the section, and what it was profiled on, for the record."""
    section = settings.model_dump(mode="json")
    facts = ("rows", "columns", "table_bytes", "precision", "memory_gib", "largest", "suggested")
    return {
        **{f"models.network.{name}": value for name, value in section.items()},
        **{f"profile.{name}": found[name] for name in facts},
    }


def points(found: dict[str, Any]) -> Iterator[tuple[str, float, int]]:
    """Give each number as a metric, whose step is the micro-batch."""
    for point in found["points"]:
        for name, value in point.items():
            if name != "rows" and isinstance(value, int | float):
                yield f"profile/{name}", float(value), point["rows"]


def text(found: dict[str, Any], machine: dict[str, str], model: str) -> str:
    """Write the table, what it rests on, what fits, and what to type next."""
    console = Console(file=io.StringIO(), width=110)
    console.print(_table(found, machine))
    console.print(*_basis(found), *_verdict(found, model), sep="\n", soft_wrap=True)
    return str(console.file.getvalue())  # type: ignore[attr-defined]


def _table(found: dict[str, Any], machine: dict[str, str]) -> Table:
    how = f"measured on {machine['gpu']}, driver {machine['gpu_driver']}"
    if not found["measured"]:
        how = "ESTIMATED, since CUDA finds no GPU here"
    columns = MEASURED if found["measured"] else ESTIMATED
    title = f"Memory of models.network on {FEATURIZED}, {found['precision']}: {how}"
    shown = Table(title=title, title_justify="left")
    for name, field in columns.items():
        shown.add_column(name, justify="left" if field == "gpus" else "right")
    for point in found["points"]:
        shown.add_row(*(_cell(point.get(field)) for field in columns.values()))
    return shown


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.2f}" if value < 1000 else f"{value:,.0f}"  # noqa: PLR2004 - four digits
    return ", ".join(value) or "none" if isinstance(value, list) else str(value or "")


def _basis(found: dict[str, Any]) -> Iterator[str]:
    yield (
        f"The table has {found['rows']} rows and takes {found['table_bytes'] / 2**30:.2f} GiB of a "
        f"GPU. A batch has {found['batch_size']} rows, shared by {found['processes']} process(es)."
    )
    if not found["measured"]:
        yield (
            f"A step takes {found['row_bytes'] / 2**10:.1f} KiB of a GPU for each row at once, and "
            f"five times {found['weights_bytes'] / 2**20:.1f} MiB for weights, gradients, moments "
            f"and the best weights; all this times {profiling.SCATTER} for what is reserved but "
            f"not used, and {profiling.CUDA_GIB} GiB for CUDA itself."
        )
    yield (
        f"A GPU type would do if {profiling.TO_COUNT_ON:.0%} of the memory in its data sheet "
        "suffices; before Ampere (T4, V100) precision auto is float16, which takes as much. "
        "Small micro-batches all take the same: what it takes to score after each epoch."
    )


def _verdict(found: dict[str, Any], model: str) -> Iterator[str]:
    where = "on this GPU" if found["measured"] else f"here ({found['memory_gib']:.2f} GiB are free)"
    tried = [point["rows"] for point in found["points"]]
    all_fit = " (all that was tried)" if found["largest"] == tried[-1] else ""
    yield f"largest that fits  {found['largest'] or 'none'} {where}{all_fit}"
    fits = any(each["fits"] and each["rows"] == found["in_use"] for each in found["points"])
    yield (
        f"params.yaml        micro_batch_size: {found['micro_batch_size']} "
        f"{'fits' if fits else 'does not fit'} ({found['in_use']} rows at once)"
    )
    if found["suggested"] is None:
        yield "next               lower width, members or number_bins in params.yaml"
        return
    chosen = "" if model == "network" else " --set model=network"
    same = found["suggested"] == found["micro_batch_size"]
    size = "" if same else f" --set models.network.micro_batch_size={found['suggested']}"
    yield f"next               python -m flows train{chosen}{size}"
