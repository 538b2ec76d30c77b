"""Hold all that a run recorded in MLflow against what the rebuild has recorded of itself.

The rebuild records a whole run, by the code of its commit: what a run tells besides its outputs
must be in there, too. What depends on when, where and by whom is passed by, see `PASSING`.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tasks import inventory, rows, store, tracking
from tasks.claim import Claim
from tasks.inventory import Content
from tasks.open_run import HISTORY
from tasks.rows import Found, Rows

PASSING = (
    *("environment.", "git_", "author", "intent", "recorder", "seen", "mlflow.", "content."),
    *("dvc_experiment_commit", "prefect_run", "reproduced", "proof", "ledger"),
)
"""How tags begin that tell when, where and by whom; or that `faults` or `_contents` looks at."""

OWN = ("library.", "output.")
"""How tags begin that nobody adds but `register`; any other tag that was added is people's own."""

ANEW = ("cost/", "latency_ms/", "system/", f"{HISTORY}refit_")
"""How metrics begin that tell how long it took; and curves of a refit: they are shown while it goes
on, and no output keeps them."""

CARD, PICTURE = "model_card.md", "lineage.mmd"

COMMITTED = re.compile(
    r"(?m)^(- commit `.*|git checkout .*|Trained on a GPU.*)$|commit [0-9a-f]{12}\b"
    r"|\n\nThe tree had uncommitted changes: .*|(?<=flows prove )\S+(?=`)"
)
"""What card and picture say of the commit, the card in the machine, and the version's number."""


def unlike(claim: Claim, database: Path) -> list[str]:
    """Name what the run has otherwise than the one that the rebuild recorded in a SQLite store."""
    if not database.is_file():
        return []
    with rows.opened(database) as tables:
        its = tables.runs()
        if not its or its[0].folder is None:
            return []
        run, folder = tables.run(its[0].run_id), its[0].folder
        curves = _curves(tables, run.run_id)
    drawn = [name for name in _lasting(claim.scores) if name.startswith(HISTORY)]
    recorded = tracking.curves(claim.run_id, drawn)
    with tempfile.TemporaryDirectory() as place:
        texts = _texts(claim.run_id, Path(place))
    anew = {name: _plain(_read(folder / name), claim) for name in texts}
    texts = {name: _plain(text, claim) for name, text in texts.items()}
    return [
        *_values("parameter", run.values, claim.values),
        *_values("metric", _lasting(run.scores), _lasting(claim.scores)),
        *_values("metric", _lasting(curves), recorded),
        *_tags(run, claim),
        *_contents("tags content.N", inventory.joined(run.tags), inventory.joined(claim.tags)),
        *_contents(
            f"artifact {inventory.ARTIFACT}",
            *(inventory.parsed(each[inventory.ARTIFACT] or "") for each in (anew, texts)),
        ),
        *(fault for name in (CARD, PICTURE) for fault in _text(name, anew[name], texts[name])),
    ]


def _must(what: str, wanted: Any, got: Any) -> str:
    return f"run: {what}: must be {wanted} (got {'nothing' if got is None else got})"


def _values(what: str, anew: Mapping[str, Any], recorded: Mapping[str, Any]) -> Iterator[str]:
    """Compare parameters or metrics, of which none may be added."""
    for name in dict.fromkeys([*anew, *recorded]):
        wanted, got = anew.get(name), recorded.get(name)
        if repr(wanted) != repr(got):  # of undefined numbers, too
            yield _must(f"{what} {name}", "absent" if wanted is None else wanted, got)


def _lasting(scores: Mapping[str, float]) -> dict[str, float]:
    return {name: value for name, value in scores.items() if not name.startswith(ANEW)}


def _curves(tables: Rows, run_id: str) -> dict[str, float]:
    query = "SELECT key, step, value, is_nan FROM metrics WHERE run_uuid = ? AND key GLOB ?"
    return {
        f"{name} at step {step}": float("nan") if is_nan else value
        for name, step, value, is_nan in tables.all(query, run_id, f"{HISTORY}*")
    }


def _tags(run: Found, claim: Claim) -> Iterator[str]:
    for name, wanted in run.tags.items():
        got = claim.tags.get(name)
        if not name.startswith(PASSING) and got != wanted:
            yield _must(f"tag {name}", wanted, got)
    for name, got in claim.tags.items():
        if name.startswith(OWN) and name not in run.tags:
            yield _must(f"tag {name}", "absent", got)


def _contents(where: str, anew: list[Content], recorded: list[Content]) -> Iterator[str]:
    """Compare what was seen; files inside a folder may all be missing, if it was changed since."""
    for each in recorded:
        if each not in anew:
            yield f"run: {where}: {each} was seen by no rebuilt stage"
    listed = {str(folder) for each in recorded for folder in Path(each.path).parents}
    folders = {each.path for each in anew}
    for each in anew:
        above = {str(folder) for folder in Path(each.path).parents} & folders
        if each not in recorded and (not above or above & listed):
            yield f"run: {where}: must have the line {each}"


def _texts(run_id: str, folder: Path) -> dict[str, str | None]:
    """Read what is written for people; None of what the run lacks."""
    found: dict[str, str | None] = {}
    for name in (inventory.ARTIFACT, CARD, PICTURE):
        try:
            with store.reachable():
                tracking.fetch(run_id, [name], folder)
            found[name] = _read(folder / name)
        except tracking.AbsentError:
            found[name] = None
    return found


def _read(file: Path) -> str | None:
    return file.read_text("utf-8", errors="replace") if file.is_file() else None


def _text(name: str, anew: str | None, recorded: str | None) -> Iterator[str]:
    """Name the first line of a text that is another, but for the commit and the machine."""
    if anew is None:
        return
    if recorded is None:
        yield f"run: artifact {name} is missing"
        return
    wanted, got = ([*text.splitlines(), None] for text in (anew, recorded))
    for must, line in zip(wanted, got, strict=False):
        if must != line:
            yield _must(f"artifact {name}", repr(must), repr(line))
            return


def _plain(text: str | None, claim: Claim) -> str | None:
    """Leave out what a text says of commit and machine, and how the run is called."""
    if text is None:
        return None
    named = rf"[A-Za-z0-9_-]+-{claim.lineage.short}\b"
    return re.sub(named, "RUN", COMMITTED.sub("", text))
