"""What goes with a recorded result for its readers: the card, a picture of the lineage, events."""

from __future__ import annotations

import platform
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tasks import card as model_card
from tasks import environment, open_lineage, tracking
from tasks import picture as flowchart
from tasks.record import Facts


def card(facts: Facts, *, name: str, model_name: str, title: str = "") -> str:
    """Write the model card.

    name   of the run
    title  what `prove` is to be asked for: the version, or, without, the run
    """
    return model_card.write(
        name,
        proven_as=title or name,
        picture=picture(facts, name=name, model_name=model_name),
        slices=facts.slices,
        lineage=facts.lineage,
        commit=facts.commit,
        manifest=facts.manifest,
        examples=facts.examples,
        metrics=facts.metrics,
        gate=facts.gate,
        snapshot_md5=facts.snapshot_md5,
        learner=facts.learner,
        machine=environment.describe(),
    )


def description(facts: Facts, *, name: str, model_name: str, title: str) -> str:
    """Write as much of the card as a version can bear."""
    whole = card(facts, name=name, model_name=model_name, title=title)
    return model_card.shortened(whole, tracking.LONGEST_DESCRIPTION)


def picture(facts: Facts, *, name: str, model_name: str) -> str:
    """Draw the lineage."""
    return flowchart.draw(
        facts.lineage,
        facts.manifest,
        commit=facts.commit.sha,
        model=model_name,
        run_name=name,
    )


def events(facts: Facts, *, name: str, model_name: str, experiment: str) -> list[Any]:
    """Tell the lineage as OpenLineage events."""
    return open_lineage.events(
        open_lineage.Told(
            namespace=experiment,
            model_name=model_name,
            run_name=name,
            lineage=facts.lineage,
            commit=facts.commit,
            manifest=facts.manifest,
            columns=open_lineage.columns(facts.lineage, Path()),
            spans=open_lineage.spans(facts.ended, facts.costs),
            now=datetime.now(UTC),
            engine=platform.python_version(),
            url=open_lineage.origin(),
        )
    )
