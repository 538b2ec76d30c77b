"""Great Expectations: ask a table whether it meets a suite.

The only module that imports it, and only inside functions, because that takes seconds. Tables go to
it as pandas over Arrow, which keeps NaN apart from null and integers integer.
"""

from __future__ import annotations

import functools
import inspect
import warnings
from collections.abc import Callable, Mapping
from datetime import date
from typing import Any, get_type_hints

import polars as pl

from tasks.measures import MAX_ROWS, MEASURES, Verdict


def validate(
    frame: pl.DataFrame, suite: list[dict[str, Any]], parameters: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Ask a table whether it meets the expectations of a suite, and give one result for each.

    suite       expectations in their serialised form
    parameters  values for the run-time parameters of the suite

    A result has `expectation`, `column` (or None), `bound`, `observed`, `passed`, and `rows`: the
    positions of the first offending rows, if it failed and has any.
    """
    gx = _great_expectations()
    context = gx.get_context(mode="ephemeral")
    context.enable_analytics(enable=False)
    context.variables.progress_bars = {"globally": False}
    table = context.data_sources.add_pandas("tables").add_dataframe_asset("table")
    asked = context.suites.add(gx.ExpectationSuite("suite", expectations=_objects(suite)))
    definition = gx.ValidationDefinition(
        name="definition", data=table.add_batch_definition_whole_dataframe("all"), suite=asked
    )
    checkpoint = gx.Checkpoint(
        name="checkpoint",
        validation_definitions=[context.validation_definitions.add(definition)],
        result_format={"result_format": "COMPLETE", "return_unexpected_index_query": False},
    )
    outcome = context.checkpoints.add(checkpoint).run(
        batch_parameters={"dataframe": frame.to_pandas(use_pyarrow_extension_array=True)},
        expectation_parameters=dict(parameters),
    )
    (run,) = outcome.run_results.values()
    found = {result.expectation_config.id: result for result in run.results}
    return [_result(found[each.id], each, frame) for each in asked.expectations]


def fault(asked: dict[str, Any]) -> str | None:
    """Say why Great Expectations refuses a serialised expectation; None if it takes it."""
    refusals = (_great_expectations().exceptions.GreatExpectationsError, TypeError)
    try:
        _objects([asked])
    except refusals as error:
        return str(error)
    except ValueError as error:  # pydantic's: a line of summary, then lines of field and reason
        return " ".join(" ".join(str(error).splitlines()[1:]).split())
    return None


def serialise(suite: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Write expectations just as Great Expectations would, which leaves out defaults."""
    gx = _great_expectations()
    written = gx.ExpectationSuite("suite", expectations=_objects(suite)).to_json_dict()
    serialised: list[dict[str, Any]] = written["expectations"]
    return serialised


@functools.cache
def _great_expectations() -> Any:
    """Import Great Expectations and teach it the expectations of `tasks.measures`, once."""
    with warnings.catch_warnings():  # it imports modules that Python deprecates
        warnings.simplefilter("ignore")
        import great_expectations
    for name, measure in MEASURES.items():
        _teach(name, measure)
    return great_expectations


def _teach(name: str, measure: Callable[..., Verdict]) -> None:
    """Register a measure: its keyword-only arguments become the fields of an expectation class."""
    from great_expectations.expectations.expectation import BatchExpectation

    hints = get_type_hints(measure)
    arguments = inspect.signature(measure).parameters.values()
    fields = [each for each in arguments if each.kind is inspect.Parameter.KEYWORD_ONLY]

    def _validate(self: Any, *_: Any, execution_engine: Any, **__: Any) -> dict[str, Any]:
        frame = pl.from_pandas(execution_engine.get_domain_records({}))
        verdict = measure(frame, **{field.name: getattr(self, field.name) for field in fields})
        result = {"observed_value": verdict.observed, "unexpected_index_list": list(verdict.rows)}
        return {"success": verdict.passed, "result": result}

    body = {field.name: field.default for field in fields if field.default is not field.empty}
    body |= {
        "__module__": __name__,
        "__doc__": measure.__doc__,
        # each may also be {"$PARAMETER": name} until the run
        "__annotations__": {field.name: hints[field.name] | dict for field in fields},
        "success_keys": tuple(field.name for field in fields),
        "_validate": _validate,
    }
    title = "".join(word.capitalize() for word in name.split("_"))
    type(BatchExpectation)(title, (BatchExpectation,), body)  # its metaclass registers it


def _objects(suite: list[dict[str, Any]]) -> list[Any]:
    _great_expectations()
    from great_expectations.expectations.expectation_configuration import ExpectationConfiguration

    return [
        ExpectationConfiguration(
            **{key: value for key, value in asked.items() if key != "id"}
        ).to_domain_obj()
        for asked in suite
    ]


def _result(result: Any, asked: Any, frame: pl.DataFrame) -> dict[str, Any]:
    kwargs = dict(result.expectation_config.kwargs)
    if hasattr(asked, "mostly"):
        kwargs.setdefault("mostly", asked.mostly)  # a default, but a bound worth reading
    rows = [] if result.success else result.result.get("unexpected_index_list") or []
    return {
        "expectation": result.expectation_config.type,
        "column": kwargs.get("column"),
        "bound": _bound(kwargs),
        "observed": _observed(result, kwargs.get("column"), frame),
        "passed": bool(result.success),
        "rows": [int(row) for row in rows[:MAX_ROWS]],
    }


def _bound(kwargs: Mapping[str, Any]) -> str:
    """Write kwargs as name=value, without what is no bound: the column and the profile."""
    return ", ".join(
        f"{name}={_text(value)}"
        for name, value in kwargs.items()
        if name not in ("column", "batch_id", "profile")
    )


def _observed(result: Any, column: str | None, frame: pl.DataFrame) -> str:
    found = result.result
    if column is not None and column not in frame.columns:
        return "no such column"
    if not found:
        return f"cannot be computed: {_reason(result.exception_info)}"
    if "unexpected_count" not in found:
        return _text(found.get("observed_value"))
    if not found["unexpected_count"]:
        return f"all {found['element_count']} rows"
    examples = ", ".join(_text(value) for value in found["partial_unexpected_list"][:3])
    return f"{found['unexpected_count']} of {found['element_count']} rows, such as {examples}"


def _reason(information: Mapping[str, Any]) -> str:
    """Find the first line of an exception's message, which may lie below a metric's name."""
    nested = [value for value in information.values() if isinstance(value, Mapping)]
    message = str((nested or [information])[0].get("exception_message"))
    return (message.strip().splitlines() or ["no reason given"])[0]


def _text(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(_text(item) for item in value)
    if isinstance(value, float):
        return f"{value:.10g}"
    if isinstance(value, date):
        return value.isoformat()
    return "null" if value is None or repr(value) == "<NA>" else str(value)
