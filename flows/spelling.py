"""Spell a value in the grammar that DVC reads settings by, which is Hydra's."""

from __future__ import annotations

import json
import re
from typing import Any

from tasks.errors import ParamsError

KEY = re.compile(
    r"(?!(null|true|false|nan|inf)$)[a-z_]([\w /\-+.$%*@?|:=,()\[\]{}]*(?<! ))?",
    re.IGNORECASE | re.ASCII,
)
"""What a key may be to be read as that very word: the grammar has no quotes for keys."""

ESCAPED = re.compile(r"[()\[\]{}:=, ]")
INTERPOLATION = re.compile(r"(\\*)\$\{")


def spelled(value: Any, key: str) -> str:
    """Write a JSON value so that it is read as it is; `key` is its place in params.yaml.

    Raises ParamsError for a mapping with a key that the grammar would misread.
    """
    if isinstance(value, str):
        return _quoted(value)
    if isinstance(value, list | tuple):
        return f"[{','.join(spelled(each, key) for each in value)}]"
    if isinstance(value, dict):
        return f"{{{','.join(f'{_name(k, key)}:{spelled(v, key)}' for k, v in value.items())}}}"
    return json.dumps(value)


def _quoted(text: str) -> str:
    """Quote a text, and keep OmegaConf from putting values in the place of `${...}`."""
    from hydra.core.override_parser.types import Quote, QuotedString  # takes as long as all forms

    literal = INTERPOLATION.sub(lambda found: f"{found[1] * 2}\\${{", text)
    return QuotedString(literal, Quote.single).with_quotes()


def _name(name: str, key: str) -> str:
    if not KEY.fullmatch(name):
        raise ParamsError(
            f"params.yaml: {key}: a key must begin with a letter and hold plain characters, to be "
            f"set from outside (got {name!r})\nnext: write it into params.yaml, and commit that"
        )
    return ESCAPED.sub(lambda found: f"\\{found[0]}", name)
