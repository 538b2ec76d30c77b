"""Examine the stages of this checkout, in copies that are gone afterwards.

python -m flows doctor
python -m flows doctor train evaluate
"""

from __future__ import annotations

from collections.abc import Sequence

from flows import preflight
from flows.doctor import conditions, places, report
from flows.doctor.examining import Examination, Finding, Telling, Verdict
from flows.graph import Graph
from tasks.errors import ParamsError


def visit(wanted: Sequence[str]) -> bool:
    """Examine the named stages, all if none is named; tell what is found, and whether all is well.

    Raises ParamsError for wrong parameters and unknown stages, StageError if the checkout cannot be
    copied.
    """
    values = preflight.check()
    names = _needed(wanted)
    is_judged = getattr(values.get("evaluate"), "baseline_run_id", None) is not None
    with places.laid_out(names, is_judged=is_judged) as copies, report.Progress() as progress:
        telling = Telling(progress.ran, progress.line)
        examination = Examination(copies, conditions.all_conditions(), telling)
        findings = list(examination.of(names, wanted or names))
    report.show(findings)
    return _all_well(findings)


def _all_well(findings: Sequence[Finding]) -> bool:
    return all(each.verdict is Verdict.STABLE for each in findings)


def _needed(wanted: Sequence[str]) -> list[str]:
    """Name the stages that must run for the wanted ones, in order; all if none is wanted."""
    graph = Graph()
    known = [stage.addressing for stage in graph.stages()]
    unknown = [name for name in wanted if name not in known]
    if unknown:
        raise ParamsError(
            f"doctor: must be given stages of dvc.yaml (got {', '.join(unknown)})\n"
            f"next: name some of {', '.join(known)}"
        )
    return [stage.addressing for stage in graph.stages(wanted)]
