"""Suite files: which expectations a table must meet, in Great Expectations' serialised form.

Beside `<suite>.json` lies `<suite>.profile.json`, the reference profile that its drift is measured
against. Values that differ from run to run stand in a suite as {"$PARAMETER": name}.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tasks import expectations
from tasks.errors import DataValidationError

COLUMNS = "expect_table_columns_to_match_ordered_list"
"""The expectation that says which columns a table has: the others may name only these."""

PARAMETER = "$PARAMETER"


def expectation(kind: str, **kwargs: Any) -> dict[str, Any]:
    """Write one expectation as it stands in a suite file."""
    return {"type": kind, "kwargs": kwargs, "meta": {}, "severity": "critical"}


def parameter(name: str) -> dict[str, str]:
    """Stand in a suite for a value that is given at run time."""
    return {PARAMETER: name}


def profile_of(file: Path) -> Path:
    """Name the reference profile that belongs to a suite file."""
    return file.with_suffix(".profile.json")


def write(file: Path, suite: list[dict[str, Any]], profile: dict[str, Any]) -> None:
    """Write a suite as Great Expectations serialises it, and its profile; create the folder."""
    content: dict[str, Any] = {
        "name": file.stem,
        "expectations": expectations.serialise(suite),
        "meta": {},
        "notes": None,
    }
    file.parent.mkdir(parents=True, exist_ok=True)
    for path, value in ((file, content), (profile_of(file), profile)):
        text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
        path.write_text(text + "\n", encoding="utf-8")


def load(file: Path, parameters: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Read the expectations of a suite file.

    parameters  values for the run-time parameters that a suite may use; `profile` among them

    Raises DataValidationError naming every expectation that cannot be used.
    """
    suite = _read(file)
    columns = _columns(suite)
    errors = [
        f"{file}: expectations[{place}]: {error}"
        for place, asked in enumerate(suite)
        for error in _malformed(asked) or _unresolved(asked, columns, parameters)
    ]
    if errors:
        raise _refuse(file, errors)
    return suite


def _read(file: Path) -> list[Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        suites = sorted(file.parent.glob("*.profile.json"))
        known = ", ".join(path.name.removesuffix(".profile.json") for path in suites) or "none"
        raise _refuse(file, [f"{file}: must exist (got the suites: {known})"]) from None
    except ValueError as error:
        raise _refuse(file, [f"{file}: must be JSON (got: {error})"]) from None
    suite = content.get("expectations") if isinstance(content, dict) else None
    if not isinstance(suite, list) or not suite:
        raise _refuse(file, [f'{file}: must hold a list "expectations" that is not empty'])
    return suite


def _refuse(file: Path, errors: list[str]) -> DataValidationError:
    draft = f"python -m tasks.draft data/ingest {file}"
    return DataValidationError(
        "\n".join([*errors, f"next: mend the suite, or delete it and draft it anew: {draft}"])
    )


def _malformed(asked: Any) -> list[str]:
    """Say why an expectation of a suite file is none, or none that Great Expectations takes."""
    if not isinstance(asked, dict) or not isinstance(asked.get("kwargs"), dict):
        return ["must be a mapping with a type and kwargs"]
    fault = expectations.fault(asked)
    return [f"{asked.get('type')}: {fault}"] if fault else []


def _unresolved(
    asked: dict[str, Any], columns: list[str] | None, parameters: Mapping[str, Any]
) -> list[str]:
    """Name what an expectation refers to and nobody has: a parameter, a column, its profile."""
    kind, column = asked["type"], asked["kwargs"].get("column")
    used = {
        name: value[PARAMETER]
        for name, value in asked["kwargs"].items()
        if isinstance(value, dict) and PARAMETER in value
    }
    errors = [
        f"{kind}: {name} must be one of {', '.join(parameters)} (got {wanted})"
        for name, wanted in used.items()
        if wanted not in parameters
    ]
    if column and columns and column not in columns:
        errors.append(f"{kind}: column must be one of {', '.join(columns)} (got {column})")
    elif used.get("profile") == "profile":
        profiled = parameters["profile"]["columns"].get(column, {})
        if "shares" not in profiled:
            errors.append(f"{kind}: the reference profile must tell how {column} is distributed")
    return errors


def _columns(suite: list[Any]) -> list[str] | None:
    """Find the columns that a table has according to the suite itself, if it says so."""
    for asked in suite:
        if isinstance(asked, dict) and asked.get("type") == COLUMNS and not _malformed(asked):
            listed: list[str] = asked["kwargs"]["column_list"]
            return listed
    return None
