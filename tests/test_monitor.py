"""The flow `monitor` on the real checkout, against a real Prefect server."""

import json
import subprocess
from datetime import date, timedelta
from pathlib import Path

import polars as pl
import pytest
from dying import Place, wait_until
from left_behind import MLFLOW_WARNS

from flows import preflight
from tasks import files, store, tracking
from tasks.registry import opened

pytestmark = [pytest.mark.xdist_group("trained"), *MLFLOW_WARNS]
APPLY = "from flows import automations; automations.apply()"
LAKE = Path("data/other")
JULY = LAKE / "month=1998-07/purchases.parquet"


@pytest.fixture
def championed(trained: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout whose model is the champion, and whose lake has another place, to grow at."""
    monkeypatch.chdir(trained)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{trained / 'mlflow.db'}")
    with opened("churn-predictor") as registry:
        registry.decide(
            "promoted", by="tests", seen=None, subject=1, to=1, reason="it is the first"
        )
    for path in Path("data/lake").rglob("*.parquet"):
        files.write_parquet(LAKE / path.relative_to("data/lake"), files.read_parquet(path))
    preflight.override([f"ingest.source={LAKE}"])
    return trained


def deliver(factor: int) -> None:
    """July is as April was, with amounts that are so many times as high."""
    april = files.read_parquet(LAKE / "month=1998-04/purchases.parquet")
    later = april.with_columns(
        pl.col("purchased_at") + timedelta(days=91),
        (pl.col("amount_cents") * factor).cast(april.schema["amount_cents"]),
    )
    files.write_parquet(JULY, later.sort(later.columns))


def surroundings(environment: dict[str, str]) -> dict[str, str]:
    """That of a command which finds the server, and the store of the checkout."""
    return {**environment, "COLUMNS": "200", "MLFLOW_TRACKING_URI": store.uri()}


def monitor(
    folder: Path, environment: dict[str, str], *arguments: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["python", "-m", "flows", "monitor", *arguments],
        cwd=folder,
        env=surroundings(environment),
        capture_output=True,
        text=True,
        check=False,
    )


def last(place: Place, name: str = "monitor") -> dict:
    """The newest run of the flow."""
    wanted = {"flows": {"name": {"any_": [name]}}, "sort": "EXPECTED_START_TIME_DESC", "limit": 1}
    return place.filter("flow_runs", **wanted)[0]


def events(place: Place) -> list[dict]:
    wanted = {"event": {"name": ["verbatim.model.drifted"]}}
    return place.filter("events", filter=wanted)["events"]


def retrains(place: Place) -> list[dict]:
    found = place.client.read_deployment_by_name("training/nightly")
    return place.filter("flow_runs", deployments={"id": {"any_": [str(found.id)]}})


def told() -> dict[str, str]:
    client = tracking.connect().MlflowClient()
    return json.loads(client.get_registered_model("churn-predictor").tags.get("drift_alarm", "{}"))


def crown_another() -> None:
    """Make another version of the same run the champion."""
    client = tracking.connect_to_write().MlflowClient()
    first = client.get_model_version("churn-predictor", "1")
    client.create_model_version(first.name, first.source, first.run_id, tags=first.tags)
    with opened(first.name) as registry:
        registry.decide("promoted", by="tests", seen=1, subject=2, to=2, reason="to see")


def test_shipped_data_is_quiet(championed: Path, place: Place):
    done = monitor(championed, place.environment)
    assert done.returncode == 0, done.stdout + done.stderr
    name = "monitor-churn-predictor-v1-1998-07-01"
    run = last(place)
    assert (run["name"], run["state_name"]) == (name, "Completed")
    assert "none over its bound" in done.stdout
    assert "The lake's past" not in done.stdout
    made = place.filter("artifacts", flow_runs={"id": {"any_": [run["id"]]}})
    kinds = {artifact["key"]: artifact["type"] for artifact in made}
    assert kinds == {
        "monitor-report": "markdown",
        "monitor-findings": "table",
        "monitor-drift": "image",
        "monitor-scores": "image",
        "monitor-volume": "image",
    }
    kept = championed / ".verbatim/monitor" / name
    report = (kept / "report.md").read_text()
    assert "| visits_30d |" in report
    assert "| tenure_days (not judged) |" in report
    assert {path.name for path in kept.iterdir()} == {
        "report.md", "findings.json", "drift.png", "scores.png", "volume.png",
    }  # fmt: skip
    found = files.read_json(kept / "findings.json")
    assert not any(each["crossed"] for each in found)
    assert told() == {}


def test_drift_is_told_once_and_starts_one_retrain(championed: Path, place: Place):
    subprocess.run(["python", "-c", APPLY], cwd=championed, env=place.environment, check=True)
    before, known = len(events(place)), len(retrains(place))

    deliver(100)
    done = monitor(championed, place.environment)
    assert done.returncode == 0, done.stdout + done.stderr
    run = last(place)
    assert run["name"] == "monitor-churn-predictor-v1-1998-07-31"
    assert run["state_name"] == "Drifted"
    assert "drift of amount_cents" in run["state"]["message"]
    assert "DRIFTED        drift of amount_cents" in done.stdout
    assert told() == {"rows.amount_cents": "1998-07-31"}
    wait_until(lambda: len(retrains(place)) == known + 1)
    wait_until(lambda: len(events(place)) == before + 1)
    event = events(place)[0]
    assert event["resource"]["prefect.resource.id"] == "verbatim.model.churn-predictor"
    assert event["resource"]["verbatim.version"] == "1"
    assert event["payload"]["findings"][0]["name"] == "rows.amount_cents"
    assert event["related"][0]["prefect.resource.id"] == f"prefect.flow-run.{run['id']}"

    again = monitor(championed, place.environment, "--as-of", "1998-08-01")
    assert again.returncode == 0
    run = last(place)
    assert run["state_name"] == "Completed"
    assert "still drifting, told on 1998-07-31" in run["state"]["message"]
    assert told() == {"rows.amount_cents": "1998-07-31"}

    crown_another()
    assert monitor(championed, place.environment, "--as-of", "1998-08-02").returncode == 0
    assert last(place)["name"] == "monitor-churn-predictor-v2-1998-08-02"
    assert last(place)["state_name"] == "Completed"  # it was told of the champion before
    assert len(events(place)) == before + 1

    deliver(1)
    assert "none over its bound" in monitor(championed, place.environment).stdout
    assert told() == {}

    deliver(100)
    alone = (
        "from flows.monitor import monitor; print(monitor(retrain=False, return_state=True).name)"
    )
    done = subprocess.run(
        ["python", "-c", alone],
        env=surroundings(place.environment),
        capture_output=True,
        text=True,
        check=True,
    )
    assert "Drifted" in done.stdout  # what was quiet for a night is told again
    assert told() == {}  # but not kept by a run that starts nothing
    assert len(events(place)) == before + 1
    assert len(retrains(place)) == known + 1
    place.started.extend(run["id"] for run in retrains(place))


def test_past_that_has_changed_is_reported(championed: Path, place: Place):
    path = LAKE / "month=1998-01/purchases.parquet"
    files.write_parquet(path, files.read_parquet(path)[:-100])
    done = monitor(championed, place.environment)
    said = "before 1998-07-01 it had 69,659 rows, and has 69,559 now"
    assert said in done.stdout
    assert said in next(championed.glob(".verbatim/monitor/*/report.md")).read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--as-of", "1998-06-01"], "as_of: must not be before 1998-07-01"),
        (["--as-of", "someday"], "must be a date such as 1998-07-01 (got someday)"),
    ],
)
def test_day_that_cannot_be_looked_from_is_refused(
    championed: Path, place: Place, arguments: list[str], message: str
):
    done = monitor(championed, place.environment, *arguments)
    assert done.returncode != 0
    assert message in done.stdout + done.stderr


def test_without_a_champion_the_next_command_is_named(trained: Path, place: Place, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{trained / 'mlflow.db'}")
    done = monitor(trained, place.environment)
    assert done.returncode == 1
    assert "must have a version with the alias 'champion'" in done.stdout + done.stderr
    assert date.fromisoformat(last(place)["name"][-10:]) == date(1998, 7, 1)
