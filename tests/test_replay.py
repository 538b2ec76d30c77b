"""A replay that is killed in the middle of its second night, and goes on, on the real data."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from dying import wait_until
from test_training import api

from tasks import ledger

pytestmark = pytest.mark.xdist_group("trained")  # one worker trains, once
PATIENCE_SECONDS = 600
COMMAND = (sys.executable, "-m", "flows", "replay", "--from", "1998-06-01", "--to", "1998-07-01")


def root(checkout: Path) -> Path | None:
    return next(checkout.glob(".verbatim/replay/1998*"), None)


def lived(checkout: Path) -> list[Path]:
    return sorted(checkout.glob(".verbatim/replay/1998*/nights/*.json"))


def has_decided_twice(checkout: Path) -> bool:
    if len(lived(checkout)) != 1:
        return False
    return len(tables(root(checkout) / "checkout/mlflow.db")[1]) == 2


def killed_after_its_second_decision(checkout: Path, environment: dict[str, str]) -> None:
    process = subprocess.Popen(
        COMMAND,
        cwd=checkout,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    wait_until(lambda: has_decided_twice(checkout) or process.poll() is not None, PATIENCE_SECONDS)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def tables(file: Path) -> tuple[list, list[ledger.Decision]]:
    with closing(sqlite3.connect(file)) as store:
        aliases = store.execute("SELECT alias, version FROM registered_model_aliases").fetchall()
        tags = dict(store.execute("SELECT key, value FROM registered_model_tags"))
    return sorted(aliases), ledger.read(tags)


def test_a_replay_that_is_killed_goes_on_and_touches_nothing_of_the_checkout(
    trained: Path, prefect: dict[str, str]
):
    before = {
        name: (trained / name).read_bytes() for name in ("mlflow.db", "params.yaml", "dvc.lock")
    }
    killed_after_its_second_decision(trained, prefect)
    (first,) = lived(trained)
    kept = first.read_bytes()

    done = subprocess.run(
        COMMAND, cwd=trained, env=prefect, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    nights = [json.loads(path.read_text()) for path in lived(trained)]
    assert lived(trained)[0].read_bytes() == kept
    assert [night["day"] for night in nights] == ["1998-06-01", "1998-07-01"]
    assert nights[0]["state"] == "Promoted"
    assert nights[1]["state"] in {"Promoted", "Kept"}  # and not Unchanged
    assert {night["scored_rows"] for night in nights} == {23_570}
    assert nights[0]["drift"] is None  # nobody was champion yet
    assert 0 < nights[1]["drift"] < 0.25
    assert nights[1]["live"]["low"] < nights[1]["live"]["value"] < nights[1]["live"]["high"]

    assert (root(trained) / "life.png").read_bytes().startswith(b"\x89PNG")
    aliases, decisions = tables(root(trained) / "checkout/mlflow.db")
    assert [each.subject for each in decisions] == [1, 2]
    assert dict(aliases)["champion"] == decisions[-1].to
    assert "the first version that has passed the gate" in done.stdout
    assert {name: (trained / name).read_bytes() for name in before} == before
    assert api(prefect, "flow_runs", flows={"name": {"any_": ["replay"]}}) == []  # told nobody
