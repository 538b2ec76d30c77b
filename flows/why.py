"""Tell in a line why a stage is not up to date."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from dvc.stage import Stage


def why(stage: Stage) -> str:
    """Tell what of a stage is not as `dvc.lock` says, in the words of `dvc status`."""
    if not any(out.hash_info for out in stage.outs):
        return "not in dvc.lock"
    found = list[str]()
    for entry in stage.status().get(stage.addressing, []):
        for kind, states in entry.items() if isinstance(entry, dict) else [(entry, {})]:
            found += list(_spelled("", states)) or [kind]
    return ", ".join(found)


def _spelled(place: str, state: Any) -> Iterator[str]:
    """Spell `{"params.yaml": {"seed": "modified"}}` as `params.yaml:seed modified`."""
    if isinstance(state, dict):
        for name, each in state.items():
            yield from _spelled(f"{place}:{name}".lstrip(":"), each)
    else:
        yield f"{place} {state}"
