"""The whole system, as `make up` starts it: runs from Prefect's pages, kills, a second start."""

import os
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psutil
import pytest
from playwright.sync_api import Browser, Locator, Page, sync_playwright
from receiving import HIDDEN, Receiver, listening
from systems import Up, command, started

pytestmark = pytest.mark.xdist_group("system")  # one worker starts it, once

CHROMIUM = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
PAGE_PATIENCE = 60_000
STAGES = ("sample", "ingest", "validate", "featurize", "train", "evaluate", "register")


@pytest.fixture(scope="module")
def webhook() -> Iterator[Receiver]:
    with listening() as receiver:
        yield receiver


@pytest.fixture(scope="module")
def system(
    environment, webhook: Receiver, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Up]:
    told = {"VERBATIM_NOTIFY_URL": webhook.address}
    with started(tmp_path_factory.mktemp("system"), environment, **told) as up:
        yield up


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Open a browser for this module alone: its driver keeps an event loop in the thread."""
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=CHROMIUM)
        yield opened
        opened.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    opened = browser.new_page(viewport={"width": 1400, "height": 1000})
    opened.set_default_timeout(PAGE_PATIENCE)
    yield opened
    opened.close()


def fill_form(page: Page, system: Up, field: str, value: str) -> Locator:
    """Open a deployment's form from the list, as a person does, and fill one field."""
    page.goto(f"{system.pages}/deployments")
    page.get_by_text("manual", exact=True).first.click()
    page.get_by_role("button", name="Run", exact=True).click()
    page.get_by_text("Custom run").click()
    label = page.get_by_text(f"{field} (Optional)", exact=True)
    found = page.locator(".schema-form-property", has=label).last.locator("input")
    found.fill(value)
    return found


@pytest.fixture(scope="session")
def pictures(tmp_path_factory) -> Path:
    """Where pictures of the pages go: docs/pictures if VERBATIM_PICTURES says so, to renew them."""
    return Path(os.environ.get("VERBATIM_PICTURES") or tmp_path_factory.mktemp("pictures"))


@pytest.fixture(scope="module")
def clicked(system: Up, browser: Browser, pictures: Path) -> dict:
    """A run that a person started from the form, when it has finished."""
    page = browser.new_page(viewport={"width": 1400, "height": 1000})
    page.set_default_timeout(PAGE_PATIENCE)
    filled = fill_form(page, system, "models.trees.learning_rate", "0.2")
    filled.evaluate("element => element.scrollIntoView({block: 'center'})")
    page.screenshot(path=pictures / "form.png")
    with page.expect_response("**/create_flow_run") as answer:
        page.get_by_role("button", name="Submit").click()
    run = system.wait(answer.value.json()["id"])
    page.close()
    return run


def tags(system: Up, name: str) -> dict[str, str]:
    """Give the tags of the MLflow run of that name; there must be one, and it must be finished."""
    query = """SELECT tags.key, tags.value FROM runs JOIN tags USING (run_uuid)
               WHERE runs.name = ? AND runs.status = 'FINISHED'"""
    file = system.checkout / ".verbatim/system/mlflow.db"
    with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as store:
        return dict(store.execute(query, [name]).fetchall())


class TestClickedRun:
    def test_completes_under_the_name_of_its_content(self, clicked):
        assert clicked["state_type"] == "COMPLETED", clicked["state"]
        assert clicked["name"].startswith("baseline-trees-")
        assert clicked["parameters"]["overrides"]["models"]["trees"] == {"learning_rate": 0.2}

    def test_trains_in_a_run_of_its_own_on_the_pool_for_gpus(self, system: Up, clicked):
        wanted = {"flow_runs": {"name": {"any_": [f"train-of-{clicked['name']}"]}}}
        (nested,) = system.api("flow_runs/filter", wanted)
        assert nested["work_pool_name"] == "gpu-pool"
        assert nested["state_type"] == "COMPLETED"
        assert system.tasks(nested["id"])["train"] == "Completed"
        assert "1 ran elsewhere" in clicked["state"]["message"]

    def test_is_an_experiment_that_another_clone_rebuilds(self, system: Up, clicked, tmp_path):
        clone = tmp_path / "clone"
        system.command("git", "clone", "--quiet", str(system.checkout), str(clone))
        for words in (
            ["dvc", "exp", "pull", "--no-cache", "origin", clicked["name"]],
            ["dvc", "exp", "apply", clicked["name"]],
        ):
            done = system.command(*words, cwd=clone)
            assert done.returncode == 0, done.stderr
        assert "learning_rate: 0.2" in (clone / "params.yaml").read_text()
        before = (clone / "dvc.lock").read_bytes()
        done = system.command("dvc", "repro", "--force", "--no-run-cache", "train", cwd=clone)
        assert done.returncode == 0, done.stdout + done.stderr
        assert (clone / "dvc.lock").read_bytes() == before

    def test_is_one_run_in_mlflow_that_names_the_experiment_and_the_page(self, system: Up, clicked):
        found = tags(system, clicked["name"])
        refs = system.command("git", "for-each-ref", "refs/exps").stdout
        assert f"{found['dvc_experiment_commit']} commit" in refs
        assert found["prefect_run"].endswith(clicked["id"])

    def test_its_page_leads_to_the_report_and_to_mlflow(
        self, system: Up, clicked, page: Page, pictures: Path
    ):
        page.goto(f"{system.pages}/runs/flow-run/{clicked['id']}")
        page.get_by_text("register", exact=True).first.wait_for()
        page.screenshot(path=pictures / "run.png")
        page.get_by_text("Artifacts", exact=True).first.click()
        page.get_by_role("link").filter(has_text="Metrics and gate").click()
        link = page.locator(f'a[href^="{system.environment["MLFLOW_TRACKING_URI"]}/"]').first
        page.goto(link.get_attribute("href"))
        page.get_by_text(clicked["name"]).first.wait_for()
        page.get_by_text("val_log_loss").first.wait_for()
        page.screenshot(path=pictures / "mlflow.png")

    @pytest.mark.usefixtures("clicked")
    def test_leaves_the_checkout_alone(self, system: Up):
        assert system.command("git", "status", "--porcelain").stdout == ""
        assert not (system.checkout / "data/train").exists()


def test_a_wrong_value_fails_before_the_first_stage(system: Up):
    wrong = {"featurize": {"recipe": "transactions", "entity": "recency_days"}}
    run = system.wait(system.trigger("training/manual", overrides=wrong))
    assert run["state_type"] == "FAILED"
    assert "params.yaml: featurize: entity must not bear" in run["state"]["message"]
    assert system.tasks(run["id"]) == {}


def test_a_failed_run_is_told_and_nothing_shows_whom(system: Up, webhook: Receiver):
    wrong = {"featurize": {"recipe": "transactions", "entity": "recency_days"}}
    run = system.wait(system.trigger("training/manual", overrides=wrong))
    text = webhook.text(run["id"])
    assert text.endswith(f"{system.pages}/runs/flow-run/{run['id']}")
    assert f"Run: {run['name']} (training/manual)" in text
    assert "params.yaml: featurize: entity must not bear" in text
    files = [file for file in (system.checkout / ".verbatim").rglob("*") if file.is_file()]
    hidden = HIDDEN.encode()
    assert not [file for file in files if hidden in file.read_bytes()]
    said = system.command("python", "-m", "flows", "up").stdout
    assert "told      by custom-webhook/verbatim" in said


def test_runs_side_by_side_come_to_what_each_comes_to_alone(system: Up):
    wanted = [{"models": {"trees": {"max_depth": depth}}} for depth in (2, 4, 5, 6)]
    together = [system.trigger("training/manual", overrides=each) for each in wanted]
    done = [system.wait(each) for each in together]
    assert [run["state_type"] for run in done] == ["COMPLETED"] * 4, [run["state"] for run in done]
    again = system.wait(system.trigger("training/manual", overrides=wanted[0], force=True))
    assert again["name"] == done[0]["name"]
    locks = [lock_of(system, run["name"]) for run in (again, done[0])]
    assert locks[0] == locks[1]
    assert len({run["name"] for run in done}) == 4


def lock_of(system: Up, name: str) -> str:
    """Give the dvc.lock of an experiment."""
    return kept(system, name, "dvc.lock")


def kept(system: Up, name: str, path: str) -> str:
    """Give a file of an experiment."""
    refs = system.command("git", "for-each-ref", "--format=%(refname)", "refs/exps").stdout.split()
    (ref,) = [each for each in refs if each.endswith(f"/{name}")]
    return system.command("git", "show", f"{ref}:{path}").stdout


LENIENT = {"min_auc": 0.5, "min_accuracy": 0.1, "min_gain": -1.0}


def test_a_sweep_trains_with_the_best_on_the_pool_for_gpus(system: Up):
    """Its own parameters, and the winner's, are in no commit: they go along."""
    poor = {"learning_rate": 0.01, "max_rounds": 5}
    overrides = {"models": {"trees": poor}, "evaluate": LENIENT, "sweep": {"n_trials": 3}}
    run = system.wait(system.trigger("sweep/spot", overrides=overrides, train=True))
    assert run["state_type"] == "COMPLETED", run["state"]
    (nested,) = [
        each
        for each in system.api("flow_runs/filter", {"sort": "START_TIME_DESC"})
        if each["name"].startswith("train-of-hyperparameter-search-trees-")
    ]
    assert nested["state_type"] == "COMPLETED"
    name = nested["name"].removeprefix("train-of-")
    assert tags(system, name)["sweep"] == run["name"]
    lock_of(system, name)  # it is an experiment


def test_nights_wait_for_each_other_and_one_that_is_killed_decides_after_all(system: Up):
    overrides = {"seed": 5}
    first = system.trigger("training/nightly", overrides=overrides)
    system.wait_for_task(first, "featurize")
    second = system.trigger("training/nightly", overrides=overrides)
    for process in system.processes():
        if process.environ().get("PREFECT__FLOW_RUN_ID") == first:
            assert system.run(second)["state_type"] in {"SCHEDULED", "PENDING"}
            process.kill()
    ends = [system.wait(night, {"COMPLETED", "FAILED"}) for night in (first, second)]
    assert sorted(run["state_name"] for run in ends) == ["Promoted", "Unchanged"], ends
    name = ends[0]["name"]
    assert 'dataset_version: "1998-07-01"' in kept(system, name, "params.yaml")
    told = system.command("python", "-m", "flows", "ledger").stdout
    assert told.count("promoted: none → version") == 1
    assert f"by {name}" in told


READ = """
import sys, polars
scores = polars.read_parquet(sys.argv[1] + "/**/*.parquet", hive_partitioning=True)
print(scores.height, scores["version"].unique().to_list(), scores["date"].unique().to_list())
"""


def test_the_champion_scores_everybody_into_the_store(system: Up):
    assert system.wait(system.trigger("training/manual"))["state_type"] == "COMPLETED"
    words = ("promote", "1", "--reason", "the first")
    promoted = system.command("python", "-m", "flows", *words)
    assert promoted.returncode == 0, promoted.stdout
    runs = [system.wait(system.trigger("score/daily", as_of="1998-06-01")) for _ in range(2)]
    assert [run["state_name"] for run in runs] == ["Completed", "Cached"], runs[0]["state"]
    assert {run["name"] for run in runs} == {"score-churn-predictor-v1-1998-06-01"}
    found = system.command("python", "-c", READ, system.environment["VERBATIM_SCORES"])
    assert found.stdout == "23570 [1] [datetime.date(1998, 6, 1)]\n", found.stderr
    assert not (system.checkout / "data/scores").exists()


@pytest.mark.parametrize("program", ["prefect", "mlflow", "store"])
def test_a_server_that_is_killed_is_started_again_and_no_run_is_lost(system: Up, program: str):
    seed = {"prefect": 1, "mlflow": 2, "store": 3}[program]
    flow_run_id = system.trigger("training/manual", overrides={"seed": seed})
    system.wait_for_task(flow_run_id, "featurize")
    system.program(program).kill()
    run = system.wait(flow_run_id)
    assert run["state_type"] == "COMPLETED", run["state"]
    assert tags(system, run["name"])


def test_a_killed_supervisor_is_no_obstacle_and_two_who_start_take_turns(system: Up):
    supervisor = system.checkout / ".verbatim/system/supervisord.pid"
    psutil.Process(int(supervisor.read_text())).kill()
    words = ["python", "-m", "flows", "up"]
    place = {"cwd": system.checkout, "env": system.environment}
    both = [subprocess.Popen(words, **place, stdout=subprocess.DEVNULL) for _ in range(2)]
    assert [each.wait() for each in both] == [0, 0]
    supervisor.unlink()  # as if a full disk had kept it from being written
    command(system.checkout, system.environment, "up")
    names = [" ".join(each.cmdline()) for each in system.processes()]
    assert len([name for name in names if "supervisord" in name]) == 1
    assert system.api("flow_runs/count", {}) >= 0


def test_stopped_in_a_run_it_leaves_no_process_and_goes_on_with_all_it_knew(system: Up):
    before = system.api("flow_runs/count", {})
    flow_run_id = system.trigger("training/manual", overrides={"seed": 4})
    system.wait_for_task(flow_run_id, "featurize")
    command(system.checkout, system.environment, "down")
    assert system.processes() == []
    command(system.checkout, system.environment, "up")
    assert system.api("flow_runs/count", {}) > before
    run = system.wait(flow_run_id)
    assert run["state_type"] in {"COMPLETED", "CRASHED", "FAILED"}, run["state"]


def test_with_a_password_and_a_database_both_servers_ask_for_it_and_no_log_holds_it(
    environment, postgres: str, tmp_path: Path
):
    settings = {"VERBATIM_PASSWORD": "only-for-tests", "DATABASE_URL": postgres}
    with started(tmp_path, environment, **settings) as up:
        for place in (f"{up.pages}/api/flow_runs/count", up.environment["MLFLOW_TRACKING_URI"]):
            words = ["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "-X", "GET", place]
            assert subprocess.run(words, capture_output=True, check=True).stdout == b"401"
        found = up.command("prefect", "work-pool", "ls").stdout
        assert "cpu-pool" in found
        folder = up.checkout / ".verbatim/system"
        assert [each.name for each in folder.glob("*.db")] == ["mlflow-users.db"]
        logs = [log.read_text(errors="replace") for log in (folder / "log").iterdir()]
        assert not [log for log in logs if settings["VERBATIM_PASSWORD"] in log]
