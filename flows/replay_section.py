"""The section `replay` of params.yaml: how nights are lived again."""

from __future__ import annotations

from pydantic import Field

from tasks.params import Section


class Replay(Section):
    """How nights are lived again."""

    every: str = Field(pattern=r"^\d+(d|w|mo|q)$", description="from one night to the next")
    settings: tuple[str, ...] = Field(
        description="KEY=VALUE of what differs from params.yaml, as `--set` takes it"
    )
