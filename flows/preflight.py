"""Check all of `params.yaml` before the first stage runs, and write what the caller overrides."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Collection
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from dvc.exceptions import DvcException
from dvc.utils.hydra import apply_overrides

from flows import editing
from flows.replay_section import Replay
from flows.sweep.section import Sweep, unfit
from tasks import devices, files, params
from tasks.errors import ParamsError
from tasks.judgement import Promote
from tasks.models import chosen
from tasks.monitoring import Monitor
from tasks.scoring import Score

GRAPH = Path("dvc.yaml")
SECTIONS: dict[str, Any] = {
    "promote": Promote,
    "score": Score,
    "monitor": Monitor,
    "replay": Replay,
    "sweep": Sweep,
}
"""Sections of params.yaml that flows take, and no stage does."""


def override(settings: list[str], path: Path = params.FILE, *, here: bool = True) -> None:
    """Write `key.path=value` settings into a params file, as `dvc exp run --set-param` does.

    All else in it stays as it is. Raises ParamsError, with the file as it was, for a key that does
    not exist or a value that some stage or flow does not take.
    """
    if not settings:
        return
    params.load(path)
    before = path.read_bytes()
    try:
        _apply(settings, path)
        check(path, here=here)
    except BaseException:
        path.write_bytes(before)
        raise


def _apply(settings: list[str], path: Path) -> None:
    before = params.load(path)
    try:
        after = _changed(before, settings)
        text = editing.edited(path.read_bytes().decode("utf-8"), before, after)
        if text is not None:
            path.write_bytes(text.encode("utf-8"))
        else:
            apply_overrides(path, settings)
    except DvcException as error:
        cause = str(error.__cause__ or error).splitlines()[0]
        raise ParamsError(
            f"{path}: --set must be KEY=VALUE with a key of this file "
            f"(got {' '.join(settings)}: {cause})"
        ) from error


def _changed(values: dict[str, Any], settings: list[str]) -> dict[str, Any]:
    """Give the values that DVC makes of the settings, without having it lay out a YAML file."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "params.json"
        copy.write_text(json.dumps(values), encoding="utf-8")
        apply_overrides(copy, settings)
        changed: dict[str, Any] = files.read_json(copy)
        return changed


def asked(graph: Path = GRAPH) -> tuple[dict[str, Any], set[str]]:
    """Give the type of each key that stages of `tasks/` take, and all keys that a graph names."""
    wanted: dict[str, Any] = {}
    declared = set(re.findall(r"\$\{\s*(\w+)", graph.read_text(encoding="utf-8")))
    for name, stage in files.read_yaml(graph)["stages"].items():
        declared |= {str(key).split(".")[0] for key in stage.get("params", [])}
        if find_spec(f"tasks.{name}"):
            wanted |= params.wanted_by(import_module(f"tasks.{name}").run)
    return wanted, declared


def check(
    path: Path = params.FILE,
    graph: Path = GRAPH,
    *,
    needed: Collection[str] = (),
    here: bool = True,
) -> dict[str, Any]:
    """Validate every section that any stage or flow takes; give the values by name.

    needed  the sections of flows that must be there; stages need all of theirs
    here    whether it is this machine that trains, and so must have the learner's device

    A stage of another making than `tasks/` may take any key that it declares in `graph`. Raises
    ParamsError with one line for each wrong, missing or unused key, all at once.
    """
    written = params.load(path)
    wanted, declared = asked(graph)
    wanted |= {name: kind for name, kind in SECTIONS.items() if name in {*written, *needed}}
    valid, errors = params.check(written, wanted)
    missing = sorted(declared - set(written) - set(wanted))
    errors += [f"{name}: Field required" for name in missing]
    unused = [name for name in written if name not in declared and name not in SECTIONS]
    errors += [
        f"{name}: no stage and no flow uses it; remove it, or correct its name" for name in unused
    ]
    if "sweep" in needed and {"sweep", "model"} <= valid.keys():
        errors += unfit(valid["sweep"], valid["model"])
    if errors:
        raise ParamsError("\n".join(f"{path}: {error}" for error in errors))
    is_elsewhere = "sweep" in needed and valid["sweep"].engine == "ray"
    if "models" in valid and here and not is_elsewhere:  # a stage may be one of another making
        device = chosen(valid["models"], valid["model"]).device
        devices.resolve(device, f"models.{valid['model']}.device")
    return valid
