"""Read `params.yaml`: strict sections, and every wrong key named at once.

A section is a frozen pydantic model that forbids unknown keys. A stage names the sections it wants
as the keyword-only arguments of its `run`; `read` turns the file into just these values.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable, Mapping
from datetime import date
from pathlib import Path
from typing import Any, get_type_hints

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from tasks import files
from tasks.errors import ParamsError

FILE = Path("params.yaml")

NAMED = re.compile(r"://[^\s'\"]*@")
"""The name, and perhaps a password, in a URL; a password may hold what a URL may not."""


class Section(BaseModel):
    """A frozen part of `params.yaml` that refuses keys it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def read(wanted: Mapping[str, Any], path: Path = FILE) -> dict[str, Any]:
    """Read the `wanted` top-level keys (name -> type) of a params file.

    Raises ParamsError with one line for each wrong key.
    """
    values, errors = check(load(path), wanted)
    if errors:
        raise ParamsError("\n".join(f"{path}: {error}" for error in errors))
    return values


def load(path: Path = FILE) -> dict[str, Any]:
    """Parse a params file into plain values.

    Raises ParamsError if it is absent, not YAML, not a mapping, or holds a date without quotes,
    which DVC cannot track.
    """
    try:
        values = files.read_yaml(path)
    except FileNotFoundError:
        raise ParamsError(
            f"{path}: must exist in the folder you run from (got {Path.cwd()}); "
            "change to the repository's root"
        ) from None
    except ValueError as error:
        raise ParamsError(f"{path}: must be YAML (got {error})") from None
    if not isinstance(values, dict):
        raise ParamsError(f"{path}: must be a mapping of sections (got {type(values).__name__})")
    if dates := _dates(values):
        raise ParamsError(
            "\n".join(f'{path}: {key}: a date must be in quotes: "{day}"' for key, day in dates)
        )
    return values


def _dates(branch: Any, key: str = "") -> list[tuple[str, date]]:
    if isinstance(branch, date):
        return [(key, branch)]
    if isinstance(branch, dict):
        return [
            found
            for name, value in branch.items()
            for found in _dates(value, f"{key}.{name}" if key else str(name))
        ]
    return []


def check(values: Mapping[str, Any], wanted: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Validate the `wanted` keys of `values`; give the valid ones and a line for each wrong one.

    The rules are those of strict JSON: "50" and true are no numbers, a date is an ISO string, and a
    tuple is a list.
    """
    valid: dict[str, Any] = {}
    errors: list[str] = []
    for name, kind in wanted.items():
        if name not in values:
            errors.append(f"{name}: Field required")
            continue
        try:
            text = json.dumps(values[name])
            valid[name] = TypeAdapter(kind).validate_json(text, strict=True)
        except ValidationError as error:
            details = error.errors(include_url=False)
            errors += [_line(name, detail, values[name]) for detail in details]
    return valid, errors


def wanted_by(run: Callable[..., Any]) -> dict[str, Any]:
    """Name and type of each parameter that a stage's `run` takes from `params.yaml`."""
    hints = get_type_hints(run, include_extras=True)
    return {
        name: hints[name]
        for name, parameter in inspect.signature(run).parameters.items()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY
    }


def _line(name: str, detail: Any, value: Any) -> str:
    key = ".".join([name, *_keys(detail, value)])
    shown = detail["type"] != "missing" and not isinstance(detail["input"], dict)
    got = NAMED.sub("://***@", repr(detail["input"]))
    return f"{key}: {detail['msg']}" + (f" (got {got})" if shown else "")


def _keys(detail: Any, value: Any) -> list[str]:
    """Give the keys that lead to an error, without the tags that pydantic adds for unions."""
    found = []
    for part in detail["loc"]:
        in_mapping = isinstance(value, dict) and part in value
        if in_mapping or (isinstance(value, list) and isinstance(part, int)):
            found.append(str(part))
            value = value[part]
    return [*found, str(detail["loc"][-1])] if detail["type"] == "missing" else found
