r"""Hold the snapshot to its suite of expectations, and stop everything that follows if it fails.

The report is written either way: `report.json` for programs, `report.html` for people.

    python -m tasks.validate data/ingest data/suites/training_data_v3.json \
        data/suites/training_data_v3.profile.json data/validate
"""

from __future__ import annotations

import html
import math
from pathlib import Path
from typing import Any

import polars as pl
from pydantic import Field

from tasks import command, expectations, files, reference, suites
from tasks.errors import DataValidationError
from tasks.params import Section


class Validate(Section):
    """Which suite the snapshot must meet, and how old it may be."""

    suite: str = Field(
        pattern=r"^[A-Za-z0-9_-]+$",
        description="Name of the suite: data/suites/<suite>.json and <suite>.profile.json.",
    )
    max_age_days: int = Field(
        gt=0, description="Most days from the newest event to ingest.dataset_version."
    )


LONGEST = 160
"""Characters of a bound or an observed value in a message; the report has all of them."""


def parameters(dataset_version: str, max_age_days: int, profile: dict[str, Any]) -> dict[str, Any]:
    """Name the values that a suite may refer to as {"$PARAMETER": name}."""
    return {"dataset_version": dataset_version, "max_age_days": max_age_days, "profile": profile}


def report(
    frame: pl.DataFrame, results: list[dict[str, Any]], *, suite: str, dataset_version: str
) -> dict[str, Any]:
    """Sum up the results and put the offending rows in place of their positions."""
    failed = sum(not result["passed"] for result in results)
    return {
        "suite": suite,
        "dataset_version": dataset_version,
        "rows": frame.height,
        "passed": failed == 0,
        "expectations": len(results),
        "failed": failed,
        "results": [result | {"rows": _offending(frame, result["rows"])} for result in results],
    }


def rows(report: dict[str, Any]) -> list[dict[str, Any]]:
    """Make a table of a report, failures first: column, expectation, bound, observed, passed."""
    names = ("column", "expectation", "bound", "observed", "passed")
    table = [{name: result[name] for name in names} for result in report["results"]]
    return sorted(table, key=lambda row: row["passed"])


def failure(report: dict[str, Any], suite_file: Path, page_file: Path) -> str:
    """Say which expectations failed, a line each, and what to do next."""
    counted = f"{report['failed']} of {report['expectations']}"
    lines = [f"{suite_file}: every expectation must be met (got {counted} that are not)"]
    for row in rows(report):
        if not row["passed"]:
            what = f"{row['expectation']} {_cut(row['bound'])}".rstrip()
            lines.append(f"  {row['column'] or 'table'}: {what} (got {_cut(row['observed'])})")
    mend = (
        f"next: see {page_file}; mend the data where it comes from and ingest it again; if the "
        f"data is right, change {suite_file} or validate.max_age_days, or delete the suite and "
        f"draft it anew: python -m tasks.draft data/ingest {suite_file}"
    )
    return "\n".join([*lines, mend])


def page(report: dict[str, Any]) -> str:
    """Write a report as one HTML page that needs nothing else."""
    title = f"{report['suite']}: {'passed' if report['passed'] else 'failed'}"
    met = report["expectations"] - report["failed"]
    summary = (
        f"{met} of {report['expectations']} expectations are met by the {report['rows']} rows "
        f"of the data set as of {report['dataset_version']}."
    )
    table = [
        row | {"column": row["column"] or "", "passed": "passed" if row["passed"] else "failed"}
        for row in rows(report)
    ]
    offending = [
        _heading(f"{result['column'] or 'table'}: {result['expectation']}") + _table(result["rows"])
        for result in report["results"]
        if result["rows"]
    ]
    return PAGE.format(
        title=html.escape(title),
        summary=html.escape(summary),
        results=_table(table),
        offending="".join(offending) or "<p>None.</p>",
    )


def _offending(frame: pl.DataFrame, positions: list[int]) -> list[dict[str, Any]]:
    return [
        {"row": position}
        | {name: _plain(value) for name, value in frame.row(position, named=True).items()}
        for position in positions
    ]


def _plain(value: Any) -> Any:
    """Keep what JSON can hold as it is, and write the rest (dates, NaN, infinity) as text."""
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    return value if value is None or isinstance(value, bool | int | str) else str(value)


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST else text[:LONGEST] + " ..."


def _heading(text: str) -> str:
    return f"<h3>{html.escape(text)}</h3>\n"


def _table(rows: list[dict[str, Any]]) -> str:
    head = "".join(f"<th>{html.escape(name)}</th>" for name in rows[0])
    body = "".join(
        f'<tr class="{html.escape(str(row.get("passed", "")))}">'
        + "".join(f"<td>{html.escape(str(value))}</td>" for value in row.values())
        + "</tr>\n"
        for row in rows
    )
    return f"<table>\n<tr>{head}</tr>\n{body}</table>\n"


PAGE = """<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<title>{title}</title>
<style>
body {{ font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 75rem }}
table {{ border-collapse: collapse; display: block; overflow-x: auto }}
th, td {{ border-bottom: 1px solid #ddd; padding: .3rem .8rem; text-align: left }}
.failed {{ background: #fde8e6 }} .failed td:last-child {{ color: #a11; font-weight: bold }}
.passed td:last-child {{ color: #174 }}
</style>
<h1>{title}</h1>
<p>{summary}</p>
<h2>Expectations</h2>
{results}
<h2>Offending rows</h2>
<p>At most 20 for each expectation; <code>row</code> counts the rows of the snapshot from 0.</p>
{offending}
</html>
"""


def run(
    ingest_folder: Path,
    suite_file: Path,
    profile_file: Path,
    validate_folder: Path,
    *,
    validate: Validate,
) -> None:
    """Validate the ingested snapshot; raise DataValidationError if an expectation is not met."""
    frame = files.read_parquet(ingest_folder / "snapshot.parquet")
    dataset_version = files.read_json(ingest_folder / "manifest.json")["dataset_version"]
    profile = reference.load(profile_file)
    values = parameters(dataset_version, validate.max_age_days, profile)
    results = expectations.validate(frame, suites.load(suite_file, values), values)
    made = report(frame, results, suite=suite_file.stem, dataset_version=dataset_version)
    files.write_json(validate_folder / "report.json", made)
    (validate_folder / "report.html").write_text(page(made), encoding="utf-8")
    if not made["passed"]:
        raise DataValidationError(failure(made, suite_file, validate_folder / "report.html"))


if __name__ == "__main__":
    command.main(run)
