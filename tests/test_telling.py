"""Being told: a real Prefect server makes real calls, which a local HTTP server receives."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from configparser import ConfigParser
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from checkouts import ROOT
from conftest import free_ports, wait_for
from dying import deploy, wait_until
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import DeploymentUpdate, WorkPoolCreate
from prefect.states import Crashed, Failed, Pending, Running
from receiving import Receiver, listening

from flows import telling

pytestmark = pytest.mark.xdist_group("telling")

FLOWS = """
import json, sys
from pathlib import Path
from prefect import flow
from prefect.states import State


def end(kind="COMPLETED", name="", message=None, model_name=None, overrides=None):
    return State(type=kind, name=name, message=message)


training, rollback, stage, reconcile = (
    flow(end, name=name) for name in ("training", "rollback", "stage", "reconcile")
)


if __name__ == "__main__":
    for name, run, said in json.loads(sys.argv[1]):
        globals()[name].with_options(flow_run_name=run)(**said, return_state=True)
"""

APPLY = """
import sys
from pydantic import SecretStr
from flows import telling
print(*telling.apply(SecretStr(sys.argv[1]) if sys.argv[1:] else None))
"""


BY_HAND = """
import sys
from prefect.blocks.notifications import SlackWebhook
SlackWebhook(url=sys.argv[1]).save("verbatim", overwrite=True)
"""
"""As somebody makes a block in Prefect's pages; Apprise posts its own JSON to json://."""


@dataclass(frozen=True)
class Place:
    """A server whose news a receiver is told, and flows of ours to run on it."""

    environment: dict[str, str]
    folder: Path
    client: SyncPrefectClient
    receiver: Receiver

    def apply(self, *address: str) -> list[str]:
        return self.python(APPLY, *address).split()

    def python(self, code: str, *words: str) -> str:
        command = [sys.executable, "-c", code, *words]
        given = {"env": self.environment, "cwd": ROOT, "text": True}
        return subprocess.run(command, **given, check=True, stdout=subprocess.PIPE).stdout

    def end(self, *runs: tuple[str, str, str, str, str | None]) -> None:
        """Run flows that end in these states: flow, run's name, state's type, name and message."""
        told = [
            (flow, run, {"kind": kind, "name": name, "message": said})
            for flow, run, kind, name, said in runs
        ]
        command = [sys.executable, "told_flows.py", json.dumps(told)]
        subprocess.run(command, env=self.environment, cwd=self.folder, check=True)

    def end_in_pool(self, deployment: str, state: Callable[..., Any], said: str) -> str:
        """Have a worker's run end, by what the server is told of it; give its name."""
        found = self.client.read_deployment_by_name(deployment)
        run = self.client.create_flow_run_from_deployment(found.id)
        for each in (Pending(), Running(), state(message=said)):
            self.client.set_flow_run_state(run.id, each)
        return run.name

    def automations(self) -> dict[str, Any]:
        found = {
            news.name: self.client.read_automations_by_name(news.name) for news in telling.NEWS
        }
        return {name: each[0] for name, each in found.items() if each}


@pytest.fixture(scope="module")
def place(prefect: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("told")
    (folder / "told_flows.py").write_text(FLOWS)
    environment = {**prefect, "PYTHONPATH": str(ROOT)}
    for flow in ("training", "stage", "reconcile"):
        deploy(environment, folder, f"told_flows.py:{flow}", "told")
    deploy(environment, folder, "told_flows.py:training", "foreign")
    with (
        listening() as receiver,
        SyncPrefectClient(api=prefect["PREFECT_API_URL"]) as client,
    ):
        client.create_work_pool(WorkPoolCreate(name="foreign-pool", type="process"))
        foreign = client.read_deployment_by_name("training/foreign")
        moved = DeploymentUpdate(work_pool_name="foreign-pool", work_queue_name="default")
        client.update_deployment(foreign.id, moved)
        place = Place(environment, folder, client, receiver)
        place.apply(receiver.address)
        yield place
        forget(client)
        place.apply()


@contextmanager
def serving(environment: dict[str, str], folder: Path) -> Iterator[tuple[str, Path]]:
    """Run a Prefect server of one's own: where it answers, and its log."""
    (port,) = free_ports(1)
    command = ["prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    given = {**environment, "PREFECT_HOME": str(folder / "prefect")}
    log = folder / "prefect.log"
    with log.open("w") as lines:
        process = subprocess.Popen(command, env=given, cwd=folder, stdout=lines, stderr=lines)
    try:
        wait_for(f"http://127.0.0.1:{port}/api/health", process)
        yield f"http://127.0.0.1:{port}/api", log
    finally:
        process.terminate()
        process.wait()


def variables(told: str) -> dict[str, str]:
    """Read variables as supervisor does."""
    pairs = (each.partition("=") for each in told.split(","))
    return {name: value.strip('"') for name, _, value in pairs}


def forget(client: SyncPrefectClient) -> None:
    for block_id in telling.blocks(client).values():
        client.delete_block_document(block_id)


def page(place: Place, run: str) -> str:
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterName

    named = FlowRunFilter(name=FlowRunFilterName(any_=[run]))
    (found,) = place.client.read_flow_runs(flow_run_filter=named)
    return f"{place.environment['PREFECT_API_URL'].removesuffix('/api')}/runs/flow-run/{found.id}"


WHY = "ROC AUC 0.846 against 0.840 of version 3: better by 0.001 to 0.011. Version 7 it is."
NEWS = (
    ("training", "hand-promoted", "COMPLETED", "Promoted", WHY),
    ("training", "hand-refused", "FAILED", "DataRefused", "amount: must not be negative"),
    ("training", "hand-gate", "FAILED", "GateFailed", "evaluate: min_auc must hold: 0.9"),
    ("rollback", "hand-rollback", "COMPLETED", "RolledBack", "Complaints of customers."),
    ("training", "hand-drift", "COMPLETED", "Drifted", None),
    ("training", "hand-differs", "FAILED", "Differs", "the stored model is another"),
)
NO_NEWS = (
    ("training", "quiet-completed", "COMPLETED", "Completed", "7 ran"),
    ("training", "quiet-kept", "COMPLETED", "Kept", "not better"),
    ("training", "quiet-unchanged", "COMPLETED", "Unchanged", "no new data"),
    ("training", "quiet-failed", "FAILED", "Failed", "who typed it sees it"),
)


@pytest.fixture(scope="module")
def told(place: Place) -> Receiver:
    """What is told of runs by hand: of a command line, with no work pool."""
    place.end(*NO_NEWS, *NEWS)
    wait_until(lambda: all(place.receiver.about(run) for _, run, *_ in NEWS))
    return place.receiver


class TestByHand:
    def test_message_says_what_happened_to_which_model_and_why_and_where_to_look(self, place, told):
        text = told.text("hand-promoted")
        assert text.splitlines()[0] == "Promoted: churn-predictor has a new champion"
        assert f"Why: {WHY}" in text
        assert "Model: churn-predictor" in text
        assert "Run: hand-promoted (training)" in text
        assert text.endswith(page(place, "hand-promoted"))

    @pytest.mark.parametrize(
        ("run", "subject"),
        [
            ("hand-refused", "Data refused: churn-predictor stays as it is"),
            ("hand-gate", "Not good enough: churn-predictor stays as it is"),
            ("hand-differs", "Not what it claims to be: a version of churn-predictor"),
            ("hand-rollback", "Rolled back: churn-predictor has its former champion again"),
            ("hand-drift", "Drift: churn-predictor meets other data than it was trained on"),
        ],
    )
    def test_each_has_a_subject_for_a_phone(self, told, run, subject):
        assert told.text(run).splitlines()[0] == subject

    def test_reason_that_was_not_given_is_not_left_blank(self, told):
        assert "Why: no reason was given" in told.text("hand-drift")

    def test_nothing_is_told_of_what_is_no_news(self, told):
        assert not told.about("quiet-")


class TestOfWorkers:
    @pytest.mark.parametrize(("state", "word"), [(Failed, "Failed"), (Crashed, "Crashed")])
    def test_failure_of_a_workers_run_is_told_once(self, place, state, word):
        run = place.end_in_pool("training/told", state, "train: memory ran out")
        text = place.receiver.text(run)
        assert text.splitlines()[0] == f"{word}: training of churn-predictor"
        assert "Why: train: memory ran out" in text
        assert f"Run: {run} (training/told)" in text

    def test_what_others_work_pools_run_is_nobody_elses_business(self, place):
        place.end_in_pool("training/foreign", Failed, "of another pool")
        place.end_in_pool("stage/told", Failed, "who waits for it fails, too")
        place.receiver.text(place.end_in_pool("training/told", Failed, "the last"))
        assert not place.receiver.about("of another pool")
        assert not place.receiver.about("who waits for it")

    def test_model_is_the_one_that_the_run_was_told(self, place):
        found = place.client.read_deployment_by_name("training/told")
        for name, given in (
            ("told-itself", {"model_name": "upgrades"}),
            ("told-by-form", {"overrides": {"register": {"model_name": "upgrades"}}}),
        ):
            run = place.client.create_flow_run_from_deployment(
                found.id, name=name, parameters=given
            )
            for each in (Pending(), Running(), Failed(message="x")):
                place.client.set_flow_run_state(run.id, each)
            assert place.receiver.text(name).splitlines()[0] == "Failed: training of upgrades"

    def test_run_that_is_of_no_model_has_none_in_its_subject(self, place):
        text = place.receiver.text(
            place.end_in_pool("reconcile/told", Failed, "another is at work")
        )
        assert text.splitlines()[0].strip() == "Failed: reconcile"


class TestSecrecy:
    def test_server_shows_the_address_nowhere(self, place):
        place.receiver.text(place.end_in_pool("training/told", Failed, "and it is called"))
        (block_id,) = telling.blocks(place.client).values()
        shown = place.client.request("GET", f"/block_documents/{block_id}").json()
        assert shown["data"]["url"] == "{{address}}"
        for what in ("block_documents", "automations", "events", "logs", "flow_runs", "artifacts"):
            answer = place.client.request("POST", f"/{what}/filter", json={"limit": 50})
            assert answer.text, what
            assert "hidden" not in answer.text.lower(), what

    def test_log_of_the_server_does_not_hold_the_address_of_a_webhook_that_answers_wrongly(
        self, environment, tmp_path
    ):
        configuration = ConfigParser(interpolation=None)
        configuration.read(ROOT / "supervisord.conf")
        told = configuration["program:prefect"]["environment"].replace("%(here)s", str(ROOT))
        with (
            listening() as receiver,
            serving({**environment, **variables(told)}, tmp_path) as (url, log),
        ):
            receiver.status = 500
            place = Place({**environment, "PREFECT_API_URL": url}, tmp_path, None, receiver)
            place.apply(receiver.address)
            (tmp_path / "told_flows.py").write_text(FLOWS)
            place.end(("training", "unheard", "COMPLETED", "Promoted", None))
            wait_until(lambda: "Internal Server Error" in log.read_text())
            wait_until(lambda: "dead letter queue" in log.read_text())
        assert "for url 'http://127.0.0.1" in log.read_text()
        assert "hidden" not in log.read_text().lower()


class TestApply:
    def test_address_stays_on_the_server_and_what_was_switched_off_stays_off(self, place):
        known = place.automations()
        assert set(known) == {news.name for news in telling.NEWS}
        place.client.pause_automation(known["told: Drifted"].id)
        assert place.apply() == ["custom-webhook/verbatim"]
        again = place.automations()
        assert {each.id for each in again.values()} == {each.id for each in known.values()}
        assert [name for name, each in again.items() if not each.enabled] == ["told: Drifted"]

    def test_nobody_is_told_where_there_is_no_address_and_that_is_said(self, place):
        forget(place.client)
        said = place.python("from flows.system import prepare; print(prepare.telling(None))")
        assert said.startswith("told      nobody: VERBATIM_NOTIFY_URL=")
        assert place.automations() == {}

    def test_block_of_another_type_that_somebody_made_is_left_alone_and_used(self, place):
        forget(place.client)
        place.python(BY_HAND, place.receiver.address.replace("http:", "json:"))
        assert place.apply() == ["slack-webhook/verbatim"]
        run = place.end_in_pool("training/told", Failed, "by another way")
        assert "Why: by another way" in place.receiver.text(run)
        both = ["custom-webhook/verbatim", "slack-webhook/verbatim"]
        assert sorted(place.apply(place.receiver.address)) == both
