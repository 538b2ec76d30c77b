"""Claims made by hand, of a pipeline of one stage that reads a lake, a suite and code."""

from typing import Any

from tasks.claim import Claim
from tasks.lineage import Lineage

PARAMS = {"model": "trees", "models.trees": {"max_depth": 3, "subsample": 0.5}}
FILES = {"1.csv": "a" * 64, "2.csv": "b" * 64}
ENVIRONMENT = {"python": "3.11.7", "polars": "2.1.0", "xgboost": "3.2.0"}


def edited(
    *,
    params: dict[str, Any] | None = None,
    command: str = "python -m it",
    code: str = "1" * 32,
    suite: str = "2" * 32,
    recipes: str = "3" * 32,
    lock: str = "4" * 32,
    lake: str = "7" * 32,
    model: str = "5" * 32,
    files: dict[str, str] | None = None,
    environment: dict[str, str] | None = None,
    tags: dict[str, str] | None = None,
) -> Claim:
    """Give the claim with some of it changed."""
    trees = {**PARAMS["models.trees"], **(params or {})}
    deps = {
        "data/lake": lake,
        "data/suites/a.json": suite,
        "requirements.lock": lock,
        "tasks/recipes": recipes,
        "tasks/train.py": code,
    }
    cause = {"cmd": command, "params": {**PARAMS, "models.trees": trees}, "deps": deps}
    lineage = Lineage({"train": cause}, {"data/train": model}, {"train": ["data/train"]}, {})
    listed = [{"path": name, "rows": 2, "sha256": sha} for name, sha in (files or FILES).items()]
    manifest = {"source": "data/lake", "dataset_version": "1998-07-01", "rows": 4, "files": listed}
    return Claim(
        run_id="0" * 32,
        run_name="baseline-trees-00000000",
        version=None,
        model_name=None,
        commit="",
        is_dirty=False,
        params="",
        graph={},
        lock={},
        lineage=lineage,
        manifest=manifest,
        metrics={},
        gate={},
        environment=ENVIRONMENT if environment is None else environment,
        tags=tags or {},
        values={},
        scores={},
        model_uri=None,
    )


CLAIM = edited()
