import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml
from claims import CLAIM
from conftest import free_ports
from receiving import listening

from flows import clones
from tasks import open_lineage
from tasks.lineage import Commit
from tasks.open_lineage import Told

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def told(**changed) -> Told:
    span = (NOW - timedelta(seconds=90), NOW - timedelta(seconds=80))
    its = {
        "namespace": "churn-prediction",
        "model_name": "churn-predictor",
        "run_name": "baseline-trees-00000000",
        "lineage": CLAIM.lineage,
        "commit": Commit("a" * 40, dirty=False, author=""),
        "manifest": {**CLAIM.manifest, "columns": {"customer_id": "Int64"}},
        "columns": {},
        "spans": {"train": span},
        "now": NOW,
        "engine": "3.11.7",
        "url": "https://example.com/shop.git",
    }
    return Told(**{**its, **changed})


def read(found) -> list[dict]:
    return [json.loads(line) for line in open_lineage.lines(found).splitlines()]


def test_each_stage_is_a_job_with_versioned_datasets_below_the_pipeline() -> None:
    events = read(open_lineage.events(told()))
    assert [(each["job"]["name"], each["eventType"]) for each in events] == [
        ("training", "START"),
        ("training.train", "START"),
        ("training.train", "COMPLETE"),
        ("training.register", "START"),
        ("training.register", "COMPLETE"),
        ("training", "COMPLETE"),
    ]
    train = events[2]
    assert train["eventTime"] == "2026-01-02T03:02:45.000+00:00"
    assert train["job"]["namespace"] == "churn-prediction"
    assert train["run"]["facets"]["parent"]["run"]["runId"] == events[0]["run"]["runId"]
    versions = {
        (each["namespace"], each["name"]): each["facets"]["version"]["datasetVersion"]
        for each in (*train["inputs"], *train["outputs"])
    }
    assert versions == {
        ("file", "data/lake"): "7" * 32,
        ("file", "data/suites/a.json"): "2" * 32,
        ("file", "data/train"): "5" * 32,
    }
    (lake, _) = train["inputs"]
    assert [each["name"] for each in lake["facets"]["schema"]["fields"]] == ["customer_id"]
    source = train["job"]["facets"]["sourceCodeLocation"]
    assert (source["version"], source["url"]) == ("a" * 40, "https://example.com/shop.git")
    (model,) = events[4]["outputs"]
    assert (model["namespace"], model["name"]) == ("mlflow", "churn-predictor")


def test_the_same_result_is_the_same_run_whenever_it_is_told() -> None:
    one, other = (
        read(open_lineage.events(told(now=each))) for each in (NOW, NOW.replace(year=2027))
    )
    assert [each["run"]["runId"] for each in one] == [each["run"]["runId"] for each in other]
    assert len({each["run"]["runId"] for each in one}) == 3


def test_objects_are_named_by_bucket_and_key() -> None:
    assert open_lineage.place("s3://lake/shop/m=1") == ("s3://lake", "shop/m=1")
    assert open_lineage.place("data/lake") == ("file", "data/lake")


@pytest.fixture
def clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    return monkeypatch


def test_without_a_collector_nothing_is_sent(clean, capsys) -> None:
    assert not open_lineage.is_wanted()
    assert open_lineage.send(open_lineage.events(told())) is None
    assert capsys.readouterr() == ("", "")


def test_a_collector_receives_every_event(clean, tmp_path: Path) -> None:
    found = open_lineage.events(told())
    with listening() as collector:
        address, _, path = collector.address.partition("/services")
        transport = {"type": "http", "url": address, "endpoint": f"services{path}"}
        (tmp_path / "openlineage.yml").write_text(yaml.safe_dump({"transport": transport}))
        assert open_lineage.send(found) is None
    assert [each["eventType"] for each in collector.received] == [
        each["eventType"] for each in read(found)
    ]


def test_what_is_done_in_a_clone_is_told_to_no_collector(clean) -> None:
    with listening() as collector:
        for name, value in {"OPENLINEAGE_URL": collector.address, **clones.SILENT}.items():
            clean.setenv(name, value)
        assert open_lineage.send(open_lineage.events(told())) is None
    assert collector.received == []


def test_a_collector_that_is_down_is_told_and_asked_once(clean, tmp_path: Path) -> None:
    (port,) = free_ports(1)
    transport = {"type": "http", "url": f"http://127.0.0.1:{port}", "retry": {"total": 0}}
    (tmp_path / "openlineage.yml").write_text(yaml.safe_dump({"transport": transport}))
    fault = open_lineage.send(open_lineage.events(told()))
    assert fault is not None
    assert fault.endswith("after 0 of 6 events")
