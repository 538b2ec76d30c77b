"""How a section's form looks in Prefect's pages: its JSON schema, arranged for their renderer.

Prefect's server holds values against the same schema. What is arranged for the eye stands beside
what binds, so that a wrong value is still refused with its own key.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

EMPTY = {"title": "as in params.yaml", "type": "object"}
"""A choice without properties: nothing is shown for it, and nothing is sent."""

NULL = {"type": "null"}

WORDS = [{"title": word, "type": "boolean", "const": word == "true"} for word in ("true", "false")]
"""A box without a tick may mean false, or nothing; of two words, none may be chosen."""


SECRET = {"pattern": r"://[^@]*:.*@|[?&]\w*password="}
"""What would stand in Prefect's database, and in git: a password in a URL."""

TOLD_ABOVE = "may stay empty: the choice above tells"


def arrange(schema: dict[str, Any], form: type[BaseModel]) -> None:
    """Change the schema of a form: its order, and what shows where nothing is set."""
    if words := getattr(form, "words", ()):
        schema["title"] = " or ".join(words)
    for position, field in enumerate(form.model_fields.values()):
        shown = schema["properties"][field.alias]
        shown["position"] = position
        shown.pop("default", None)  # which Prefect's pages would send
        if not _is_folder(field.annotation):
            _fold(shown)
        if shown.get("type") == "string" and "enum" not in shown:
            shown["not"] = SECRET


def _is_folder(kind: Any) -> bool:
    """Tell whether a section holds sections alone, and so nothing that would need a fold."""
    fields = kind.model_fields.values() if _is_form(kind) else ()
    return bool(fields) and all(_is_form(field.annotation) for field in fields)


def _is_form(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _fold(shown: dict[str, Any]) -> None:
    """Put a choice that asks for nothing before what else a field shows.

    What binds moves below `then`, where no page looks: beside `type`, or below `allOf`, the older
    pages would show a box without a tick, and send it as false.
    """
    if "$ref" in shown:
        change = {"$ref": shown["$ref"], "title": "change", "description": ""}
        shown["anyOf"] = [EMPTY, change]
    elif "anyOf" in shown:
        _fold_choices(shown)
    elif "const" in shown:
        shown |= {"enum": [shown.pop("const")], "description": TOLD_ABOVE}
    elif shown.get("type") == "boolean":
        shown |= {**_binding({"type": shown.pop("type")}), "anyOf": [EMPTY, *WORDS]}
    elif "type" not in shown:
        shown["anyOf"] = [EMPTY, {"title": "JSON"}]


def _fold_choices(shown: dict[str, Any]) -> None:
    """Fold a field of several types; a plain input that may be null besides needs no fold."""
    choices = [{**each, "title": "null"} if each == NULL else each for each in shown["anyOf"]]
    inputs = [each for each in shown["anyOf"] if each != NULL]
    if len(inputs) == 1 and "$ref" not in inputs[0]:
        shown["anyOf"] = choices
    else:
        shown |= {**_binding({"anyOf": shown["anyOf"]}), "anyOf": [EMPTY, *choices]}


def _binding(schema: dict[str, Any]) -> dict[str, Any]:
    return {"if": {}, "then": schema}
