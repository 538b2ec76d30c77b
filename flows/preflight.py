"""Check all of `params.yaml` before the first stage runs, and write what the caller overrides."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import Any

import yaml
from dvc.exceptions import DvcException
from dvc.utils.hydra import apply_overrides

from tasks import params
from tasks.errors import ParamsError

GRAPH = Path("dvc.yaml")


def override(settings: list[str], path: Path = params.FILE) -> None:
    """Write `key.path=value` settings into a params file, as `dvc exp run --set-param` does.

    Comments stay. Raises ParamsError, with the file as it was, for a key that does not exist or a
    value that some stage does not take.
    """
    if not settings:
        return
    before = path.read_bytes() if path.exists() else b""
    try:
        _apply(settings, path)
        check(path)
    except ParamsError:
        path.write_bytes(before)
        raise


def _apply(settings: list[str], path: Path) -> None:
    try:
        apply_overrides(path, settings)
    except DvcException as error:
        cause = str(error.__cause__ or error).splitlines()[0]
        raise ParamsError(
            f"{path}: --set must be KEY=VALUE with a key of this file "
            f"(got {' '.join(settings)}: {cause})"
        ) from error


def check(path: Path = params.FILE, graph: Path = GRAPH) -> dict[str, Any]:
    """Validate every section that any stage takes; give the values by name.

    Raises ParamsError with one line for each wrong, missing or unused key, all at once.
    """
    written = params.load(path)
    text = graph.read_text(encoding="utf-8")
    wanted: dict[str, Any] = {}
    for stage in yaml.safe_load(text)["stages"]:
        wanted |= params.wanted_by(importlib.import_module(f"tasks.{stage}").run)
    valid, errors = params.check(written, wanted)
    interpolated = set(re.findall(r"\$\{\s*(\w+)", text))
    missing = sorted(interpolated - set(written) - set(wanted))
    errors += [f"{name}: Field required" for name in missing]
    errors += [
        f"{name}: no stage uses it; remove it, or correct its name"
        for name in written
        if name not in wanted and name not in interpolated
    ]
    if errors:
        raise ParamsError("\n".join(f"{path}: {error}" for error in errors))
    return valid
