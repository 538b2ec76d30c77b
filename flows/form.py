"""The form of a run: every parameter that stages and flows take, typed by their own sections.

What a person leaves empty is as in `params.yaml`, at any depth. What they fill in becomes settings
such as `--set` takes, and `preflight` has the last word on them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from flows import preflight, spelling
from flows.partial import Form, form
from flows.sweep.section import Sweep
from tasks import params
from tasks.models import Models

GRAPH = Path(__file__).resolve().parent.parent / preflight.GRAPH
"""That of the checkout that this code is of, wherever it is called from."""

CHOICES: dict[str, Any] = {"model": Literal[tuple(Models.model_fields)]}
"""Keys whose values only a validator knows, where a form must list them."""

ABOUT = {
    "seed": "every random choice is derived from it, each purpose with a seed of its own",
    "featurize": "how rows become examples, by the recipe for data of their shape",
    "model": "the learner to train; of `models`, only its own settings take effect",
}
"""What the type of a key that is no section does not tell."""

FOREIGN = "of no stage in `tasks/`: dvc.yaml says what it is for"

ABSENT = object()
"""What is written where a key is not."""


def build(graph: Path = GRAPH, *, also: Mapping[str, Any] | None = None) -> type[Form]:
    """Make the form of all keys that a graph's stages take, and `also` of sections of flows.

    A stage of another making may take any JSON.
    """
    wanted, declared = preflight.asked(graph)
    wanted = {**(also or {}), **wanted, **dict.fromkeys(sorted(declared - wanted.keys()), Any)}
    fields = {
        key: (CHOICES.get(key, kind), FOREIGN if kind is Any else ABOUT.get(key))
        for key, kind in wanted.items()
    }
    return form("Overrides", "What differs from params.yaml, for one run.", fields)


Overrides: Any = build()
"""For what stages take."""

SweepOverrides: Any = build(also={"sweep": Sweep})
"""For what stages and the flow `sweep` take."""


def settings(overrides: Form, path: Path = params.FILE) -> list[str]:
    """Give what was filled in as `preflight.override` takes it, for a params file as it stands.

    A section whose variant is another one than in the file, such as the recipe, takes its place.
    Raises ParamsError for a key that Hydra's grammar has no way to spell.
    """
    return list(_changes("", overrides, params.load(path)))


def _changes(key: str, value: Any, written: Any) -> Iterator[str]:
    """Go down to what differs; write anew what cannot be changed into what was given."""
    plain = value.model_dump() if isinstance(value, Form) else value
    if isinstance(value, Form) and isinstance(written, dict) and value.changes(written, plain):
        for name, each in value:
            yield from _changes(f"{key}.{name}".lstrip("."), each, written.get(name, ABSENT))
        return
    if isinstance(value, Form) and len(value.words) == 1:
        plain = {value.tag: value.words[0], **plain}
    if isinstance(written, dict) or (isinstance(written, list) and not isinstance(plain, list)):
        yield f"~{key}"
        written = ABSENT
    yield f"{'+' if written is ABSENT else ''}{key}={spelling.spelled(plain, key)}"
