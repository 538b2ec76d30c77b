"""Check all of `params.yaml` before the first stage runs, and write what the caller overrides."""

from __future__ import annotations

import re
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from dvc.exceptions import DvcException
from dvc.utils.hydra import apply_overrides

from tasks import devices, files, params
from tasks.errors import ParamsError
from tasks.models import chosen

GRAPH = Path("dvc.yaml")


def override(settings: list[str], path: Path = params.FILE) -> None:
    """Write `key.path=value` settings into a params file, as `dvc exp run --set-param` does.

    Comments stay. Raises ParamsError, with the file as it was, for a key that does not exist or a
    value that some stage does not take.
    """
    if not settings:
        return
    params.load(path)
    before = path.read_bytes()
    try:
        _apply(settings, path)
        check(path)
    except BaseException:
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

    A stage of another making than `tasks/` may take any key that it declares in `graph`. Raises
    ParamsError with one line for each wrong, missing or unused key, all at once.
    """
    written = params.load(path)
    wanted: dict[str, Any] = {}
    declared = set(re.findall(r"\$\{\s*(\w+)", graph.read_text(encoding="utf-8")))
    for name, stage in files.read_yaml(graph)["stages"].items():
        declared |= {str(key).split(".")[0] for key in stage.get("params", [])}
        if find_spec(f"tasks.{name}"):
            wanted |= params.wanted_by(import_module(f"tasks.{name}").run)
    valid, errors = params.check(written, wanted)
    missing = sorted(declared - set(written) - set(wanted))
    errors += [f"{name}: Field required" for name in missing]
    unused = [name for name in written if name not in declared]
    errors += [f"{name}: no stage uses it; remove it, or correct its name" for name in unused]
    if errors:
        raise ParamsError("\n".join(f"{path}: {error}" for error in errors))
    if "models" in valid:  # a stage may have been replaced by one of another making
        device = chosen(valid["models"], valid["model"]).device
        devices.resolve(device, f"models.{valid['model']}.device")
    return valid
