"""What the stages left behind, in the words of a run's record: parameters, metrics, tags."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tasks import command, environment, files, inventory, lineage, seeds, store
from tasks.inventory import Content
from tasks.lineage import Commit, Lineage
from tasks.open_run import HISTORY

Metric = tuple[str, float, int]
"""Name, value, step."""

PURPOSES = ("split", "train", "bootstrap")
"""What the stages derive seeds for."""

FOLDERS = {"sample": "lake"}
"""The output folders that are not named like their stage."""


@dataclass(frozen=True)
class Folders:
    """Where each stage left its output."""

    ingest: Path
    validate: Path
    featurize: Path
    train: Path
    evaluate: Path


@dataclass(frozen=True)
class Facts:
    """What the stages before left behind, as it is recorded.

    costs          stage -> what it measured of itself; none where another content was last made
    ended          stage -> when it ended, in seconds, of those with costs
    contents       every file that was read or written, with its hashes
    snapshot_md5   hash of the data; `preprocessing_sha256` of encoder, roles and split together
    """

    manifest: dict[str, Any]
    examples: dict[str, Any]
    learner: dict[str, Any]
    history: list[dict[str, float]]
    metrics: dict[str, dict[str, Any]]
    baselines: dict[str, dict[str, Any]]
    gate: dict[str, Any]
    slices: list[dict[str, Any]]
    costs: dict[str, dict[str, float]]
    ended: dict[str, float]
    contents: list[Content]
    snapshot_md5: str
    preprocessing_sha256: str
    lineage: Lineage
    commit: Commit

    @property
    def key(self) -> str:
        """The lineage key in full."""
        return self.lineage.key

    @property
    def features(self) -> list[str]:
        """Numeric, then categorical."""
        columns = self.examples["columns"]
        return [*columns["numeric"], *columns["categorical"]]


def parameters(facts: Facts) -> dict[str, Any]:
    """Give every parameter in use, what the learner says of itself, and what the data was."""
    rows = {part: count["rows"] for part, count in facts.examples["parts"].items()}
    data = {
        "source": facts.manifest["source"],
        "dataset_version": facts.manifest["dataset_version"],
        "snapshot_md5": facts.snapshot_md5,
        "preprocessing_sha256": facts.preprocessing_sha256,
        "rows": facts.manifest["rows"],
        **{f"rows.{part}": count for part, count in rows.items()},
        **{f"share.{part}": round(count / sum(rows.values()), 4) for part, count in rows.items()},
        "split": facts.examples["rule"],
        "sampling": facts.examples["rule"].get("sampling", "none"),
        "features": len(facts.features),
    }
    return {
        **facts.lineage.parameters,
        **derived_seeds(facts.lineage.parameters),
        **{
            f"learner.{name}": value
            for name, value in facts.learner.items()
            if not isinstance(value, list)
        },
        **{f"data.{name}": value for name, value in data.items()},
    }


def derived_seeds(parameters: Mapping[str, Any]) -> dict[str, int]:
    """Give the seed of each purpose, as the stages derive them."""
    return {f"seeds.{name}": seeds.derive(parameters["seed"], name) for name in PURPOSES}


def metrics(facts: Facts) -> list[Metric]:
    """Give every score by part, interval and baseline, the loss curves, and what stages cost."""
    summary = {
        **facts.metrics,
        "baseline": facts.baselines,
        "gate": {"passed": float(facts.gate["passed"])},
        "cost": facts.costs,
    }
    curves = [
        (f"{HISTORY}{name}", float(value), int(step["step"]))
        for step in facts.history
        for name, value in step.items()
        if name != "step"
    ]
    return [*numbers(summary), *curves]


def numbers(nested: dict[str, Any], prefix: str = "") -> list[Metric]:
    """Flatten to `part/metric`; texts and undefined values are left out."""
    found: list[Metric] = []
    for name, value in nested.items():
        if isinstance(value, dict):
            found += numbers(value, f"{prefix}{name}/")
        elif isinstance(value, int | float):
            found.append((f"{prefix}{name}", float(value), 0))
    return found


def origin(facts: Facts) -> dict[str, str]:
    """Give the tags that tell a run or version's content and where it comes from."""
    return {
        store.LINEAGE_KEY: facts.key,
        "git_commit": facts.commit.sha,
        "git_dirty": str(facts.commit.dirty).lower(),
        "dataset_version": facts.manifest["dataset_version"],
        "snapshot_md5": facts.snapshot_md5,
        "device": facts.learner["device"],
        "deterministic": str(facts.learner["deterministic"]).lower(),
        **{f"output.{path}": md5 for path, md5 in facts.lineage.outputs.items()},
    }


def read(folders: Folders) -> Facts:
    """Read what there is to record, `dvc.lock` and the git checkout included."""
    encoder, examples = folders.featurize / "encoder.json", folders.featurize / "examples.json"
    manifest, its = files.read_json(folders.ingest / "manifest.json"), lineage.read()
    slices, measured = folders.evaluate / "slices.json", costs(folders.ingest.parent)
    return Facts(
        manifest=manifest,
        examples=files.read_json(examples),
        learner=files.read_json(folders.train / "learner.json"),
        history=files.read_json(folders.train / "history.json"),
        metrics=files.read_json(folders.evaluate / "metrics.json"),
        baselines=files.read_json(folders.evaluate / "baselines.json"),
        gate=files.read_json(folders.evaluate / "gate.json"),
        slices=files.read_json(slices) if slices.exists() else [],
        costs=measured,
        ended={stage: (command.COSTS / f"{stage}.json").stat().st_mtime for stage in measured},
        contents=inventory.listed(its, manifest, Path()),
        snapshot_md5=digest("md5", [folders.ingest / "snapshot.parquet"]),
        preprocessing_sha256=digest("sha256", [encoder, examples]),
        lineage=its,
        commit=commit(),
    )


def costs(data: Path) -> dict[str, dict[str, float]]:
    """Read what each stage measured when it made what now lies in its folder below `data`."""
    found = {}
    for path in sorted(command.COSTS.glob("*.json")):
        cost = files.read_json(path)
        made = data / FOLDERS.get(path.stem, path.stem)
        # `register` itself is still at work: what it left is an older call's.
        if path.stem != lineage.LAST and cost.pop("outputs", None) == command.digest(made):
            found[path.stem] = cost
    return found


def commit() -> Commit:
    """Ask git where this folder stands, or the image where git knows nothing of it."""
    known = lineage.commit()
    return known if known.sha else replace(known, sha=environment.git_commit())


def digest(algorithm: str, paths: Iterable[Path]) -> str:
    """Hash the files' contents, one after the other, in hex."""
    total = hashlib.new(algorithm)
    for path in paths:
        with path.open("rb") as file:
            total.update(hashlib.file_digest(file, algorithm).digest())
    return total.hexdigest()
