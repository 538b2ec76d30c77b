"""Values of a YAML file are replaced, and every other byte is left alone."""

import copy
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ruamel.yaml import YAML

from flows import editing
from tasks import files

ROOT = Path(__file__).parent.parent
TEXT = """\
# first
seed: 1997   # why this one

pins: >-
  ONE=1 TWO=2
  THREE='3'

"quoted key": "1998-07-01"  # a day
models:
  trees: # shallow
    rate: 0.05
    depth:    3
    note: 'single quotes'
  empty:
  nothing: null # or a number
  tilde: ~
windows: [30, 60,   90] # flow
block:
  - a
  - b

space: {low: 0.1, high: 0.3, log: true}
list_of_flows:
  - {x: 1} # one
last: 1
"""


def parsed(text: str) -> Any:
    return YAML(typ="safe").load(text)


def change(text: str, *path: Any, to: Any) -> str | None:
    before = parsed(text)
    after = copy.deepcopy(before)
    branch = after
    for key in path[:-1]:
        branch = branch[key]
    branch[path[-1]] = to
    return editing.edited(text, before, after)


@pytest.mark.parametrize(
    ("path", "to", "old", "new"),
    [
        (("seed",), 5, "seed: 1997   # why", "seed: 5   # why"),
        (("models", "trees", "rate"), 1e-05, "rate: 0.05\n", "rate: 1e-05\n"),
        (("models", "trees", "depth"), 12, "depth:    3\n", "depth:    12\n"),
        (("models", "trees", "note"), "plain", "'single quotes'", "plain"),
        (("models", "trees", "note"), "it's: so", "'single quotes'", '"it\'s: so"'),
        (("quoted key",), "1999-01-01", '"1998-07-01"  # a', '"1999-01-01"  # a'),
        (("models", "empty"), 1, "empty:\n", "empty: 1\n"),
        (("models", "nothing"), 1.5, "nothing: null # or", "nothing: 1.5 # or"),
        (("models", "tilde"), "a", "tilde: ~\n", "tilde: a\n"),
        (("seed",), None, "seed: 1997   # why", "seed: null   # why"),
        (("seed",), "null", "seed: 1997   # why", 'seed: "null"   # why'),
        (("seed",), "1997", "seed: 1997   # why", 'seed: "1997"   # why'),
        (("seed",), "yes", "seed: 1997   # why", "seed: yes   # why"),
        (("windows",), [7], "[30, 60,   90] # flow", "[7] # flow"),
        (("windows", 1), 61, "[30, 60,   90] # flow", "[30, 61, 90] # flow"),
        (("block",), [1, "a b"], "\n  - a\n  - b\n\n", '\n  [1, "a b"]\n\n'),
        (("space", "high"), 0.4, "high: 0.3, log", "high: 0.4, log"),
        (("space", "log"), False, "log: true}", "log: false}"),
        (("space",), [1, 2], "{low: 0.1, high: 0.3, log: true}", "[1, 2]"),
        (("last",), {"a": [None, "b"]}, "last: 1\n", "last: {a: [null, b]}\n"),
        (("last",), 2, "last: 1\n", "last: 2\n"),
        (("last",), 1.0, "last: 1\n", "last: 1.0\n"),
        (("last",), True, "last: 1\n", "last: true\n"),
        (
            ("pins",),
            "FOUR=4",
            ">-\n  ONE=1 TWO=2\n  THREE='3'\n\n",
            '"FOUR=4"\n\n',
        ),
    ],
)
def test_only_the_characters_of_the_value_change(
    path: tuple[Any, ...], to: Any, old: str, new: str
):
    assert TEXT.count(old) == 1
    assert change(TEXT, *path, to=to) == TEXT.replace(old, new)


def test_several_values_change_at_once():
    before = parsed(TEXT)
    after = copy.deepcopy(before)
    after["seed"], after["last"], after["models"]["trees"]["depth"] = 123456, 2, 4
    after["pins"] = "short"
    after["block"] = ["c"]
    text = editing.edited(TEXT, before, after)
    assert text is not None
    assert parsed(text) == after
    kept = {"# first", "# why this one", "# a day", "# shallow", "# or a number", "# flow", "# one"}
    assert {word for word in kept if word in text} == kept


def test_what_does_not_change_is_the_same_text():
    assert editing.edited(TEXT, parsed(TEXT), parsed(TEXT)) == TEXT


@pytest.mark.parametrize("ending", ["", "\n", "\n\n\n", "\n# the end\n", "  # the end"])
def test_the_end_of_the_file_stays_as_it_is(ending: str):
    assert change(f"a: 1\nb: 2{ending}", "b", to=3) == f"a: 1\nb: 3{ending}"


@pytest.mark.parametrize("text", ["a: >-\n  one\n  two\n", "a: |\n  one\n  two\n", "a: |\n  one\n"])
@pytest.mark.parametrize("rest", ["", "b: 1\n", "\nb: 1\n", "\n\n# why\nb: 1\n"])
def test_text_of_several_lines_becomes_one(text: str, rest: str):
    edited = change(text + rest, "a", to="new")
    assert edited is not None
    assert parsed(edited) == parsed(text + rest) | {"a": "new"}
    assert edited.startswith("a: new\n")
    assert edited.endswith(rest)


def test_keys_that_come_or_go_are_not_for_an_edit():
    before = parsed(TEXT)
    for after in (
        before | {"new": 1},
        {key: before[key] for key in before if key != "seed"},
        before | {"models": before["models"] | {"forest": 1}},
        before | {"space": {"low": 0.1}},
    ):
        assert editing.edited(TEXT, before, after) is None


@pytest.mark.parametrize(
    "value",
    [
        "[30, # why\n  60]",
        "{a: 1, # why\n  b: 2}",
        "\n  - 30 # why\n  - 60",
        "\n  - 30\n  # why\n  - 60",
    ],
)
def test_a_comment_within_a_value_is_not_lost(value: str):
    text = f"key: {value}\nother: 1\n"
    assert change(text, "key", to=[1]) is None
    assert change(text, "other", to=2) == text.replace("other: 1", "other: 2")


@pytest.mark.parametrize("text", ["a:\n", "a: # why: so\n", "a:\n\n# why\n\n", "a:", "a: \n"])
@pytest.mark.parametrize("rest", ["", "b: 1\n"])
def test_an_empty_value_is_written_behind_its_key(text: str, rest: str):
    text = text + rest if text.endswith("\n") else f"{rest}{text}"
    edited = change(text, "a", to=2)
    assert edited == text.replace("a:", "a: 2")


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("a: &x 1\nb: *x\n", ("b",)),
        ("a: &x 1\nb: *x\n", ("a",)),
        ("a: &x {c: 1}\nb: {<<: *x, d: 2}\n", ("b", "d")),
        ("a: &x {c: 1}\nb: {<<: *x, d: 2}\n", ("b", "c")),
        ("{a, b}\n", ("a",)),
        ("1: a\n", (1,)),
        ("true: a\n", (True,)),
    ],
)
def test_what_an_edit_would_garble_is_not_for_an_edit(text: str, path: tuple[Any, ...]):
    """A value that stands for two, and keys that are not what they look like."""
    edited = change(text, *path, to=7)
    assert edited is None


def test_the_shipped_parameters_are_edited_in_place():
    text = (ROOT / "params.yaml").read_text(encoding="utf-8")
    before = files.read_yaml(ROOT / "params.yaml")
    after = copy.deepcopy(before)
    after["models"]["trees"] |= {"max_depth": 7, "learning_rate": 0.0123}
    after["evaluate"]["baseline_run_id"] = "0" * 32
    edited = editing.edited(text, before, after)
    assert edited is not None
    assert parsed(edited) == after
    pairs = list(zip(text.splitlines(), edited.splitlines(), strict=True))
    changes = [(old.partition("#"), new.partition("#")) for old, new in pairs if old != new]
    assert [new.strip() for _, (new, _, _) in changes] == [
        "learning_rate: 0.0123",
        "max_depth: 7",
        f'baseline_run_id: "{"0" * 32}"',
    ]
    assert all(old[1:] == new[1:] for old, new in changes)


SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(10**9), 10**9)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8", exclude_categories=("C", "Zl", "Zp")), max_size=8)
    | st.sampled_from(["null", "yes", "1e3", "0x1", "1_000", "~", "- a", "#", "a: b", "1998-07-01"])
)
VALUES = SCALARS | st.lists(SCALARS, max_size=3)
PLACES: list[tuple[str, ...]] = [
    ("seed",),
    ("pins",),
    ("quoted key",),
    ("models", "trees", "rate"),
    ("models", "empty"),
    ("models", "nothing"),
    ("windows",),
    ("block",),
    ("space", "high"),
    ("last",),
]


@given(st.dictionaries(st.sampled_from(PLACES), VALUES, min_size=1))
def test_the_edited_text_is_read_as_what_was_meant(values: dict[tuple[str, ...], Any]):
    before = parsed(TEXT)
    after = copy.deepcopy(before)
    for path, value in values.items():
        branch = after
        for key in path[:-1]:
            branch = branch[key]
        branch[path[-1]] = value
    edited = editing.edited(TEXT, before, after)
    assert edited is not None
    assert repr(parsed(edited)) == repr(after)
    comments = [line.partition("#")[2] for line in TEXT.splitlines() if "#" in line]
    assert all(f"#{comment}" in edited for comment in comments)
