"""Replace values in the text of a YAML file, and leave every other byte of it alone.

A parser that writes the whole file anew would wrap its lines, quote its words and lay out its lists
in its own way, and the change would be lost among them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from ruamel.yaml.nodes import MappingNode, Node

PLAIN = re.compile(r"[A-Za-z_][\w./-]*")
"""Words that need no quotes, unless YAML reads something else in them, such as null."""


def edited(text: str, before: Any, after: Any) -> str | None:
    """Give the text with the values of `after`, which was read as those of `before`.

    None if that takes more than new values: `after` has other keys, a comment stands within a value
    that is replaced, or a value stands for several, as YAML's anchors do.
    """
    new = text
    for key, node, value in reversed(list(_changes(None, YAML().compose(text), before, after))):
        start, end = node.start_mark.index, node.end_mark.index
        old = text[start:end]
        if value is None or ("\n" in old and "#" in old):
            return None
        if key and not old:  # an empty value is where the next word is, behind all comments
            start = end = text.find(":", key.end_mark.index) + 1
        space = old[len(old.rstrip()) :]  # the end of a line, if the value took several
        new = new[:start] + ("" if old else " ") + value + space + new[end:]
    return new if _reads_as(new, after) else None


def _changes(
    key: Node | None, node: Node, before: Any, after: Any
) -> Iterator[tuple[Node | None, Node, str | None]]:
    """Find the values that differ, in the text's order, their keys, and how to write them now."""
    if repr(before) == repr(after):  # and not before == after, as 1, 1.0 and true are
        return
    if not (isinstance(node, MappingNode) and isinstance(after, dict)):
        yield key, node, written(after)
    elif not before.keys() == after.keys() == {name.value for name, _ in node.value}:
        yield key, node, None
    else:
        for name, value in node.value:
            yield from _changes(name, value, before[name.value], after[name.value])


def _reads_as(text: str, value: Any) -> bool:
    try:
        return repr(YAML(typ="safe").load(text)) == repr(value)
    except YAMLError:
        return False


def written(value: Any) -> str:
    """Write a value on one line, words without quotes where YAML allows."""
    if isinstance(value, str) and PLAIN.fullmatch(value) and YAML(typ="safe").load(value) == value:
        return value
    if isinstance(value, list):
        return f"[{', '.join(written(each) for each in value)}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{written(k)}: {written(each)}' for k, each in value.items())}}}"
    return json.dumps(value, ensure_ascii=False)
