"""Whom the Prefect server tells what became of a run, as code: one automation for each final state.

Flows end in states whose names say what happened, and whose messages say why; Prefect makes an
event of each. Whoever is to be told is a notification block named `verbatim`: one that `prepare`
makes of VERBATIM_NOTIFY_URL, and any that somebody makes in Prefect's pages, whatever its type.
Failures are told of runs that our workers started: who types a command sees how it ends. All else
is told of every run. A run of `stage` is not told: the run that waits for it fails with its reason.

    python -m flows prepare
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

from prefect.automations import AutomationCore, EventTrigger, Posture, SendNotification
from prefect.blocks.notifications import CustomWebhookNotificationBlock
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.types import SecretDict
from prefect.utilities.urls import url_for
from pydantic import SecretStr

from flows.automations import Labels, ours, settle
from tasks import params

BLOCK = "verbatim"
"""The name of every block by which people are told."""

PARAMS = Path(__file__).resolve().parent.parent / params.FILE


@dataclass(frozen=True)
class News:
    """What is told of a final state; `text` is for somebody who does not know the code.

    ours  whether of runs in our work pools alone
    """

    state: str
    subject: str
    text: str
    ours: bool = False

    @property
    def name(self) -> str:
        """The name of its automation."""
        return f"told: {self.state}"


NEWS = (
    News(
        "Failed",
        "Failed: {{ flow.name }} [of model]",
        "The run stopped with an error; what it was to do is not done.",
        ours=True,
    ),
    News(
        "Crashed",
        "Crashed: {{ flow.name }} [of model]",
        "The run's process was killed, or its machine went away. If that was no fault of its own, "
        "the same run goes on by itself from where it was, three times at most: see its page.",
        ours=True,
    ),
    News(
        "DataRefused",
        "Data refused: [model] stays as it is",
        "The new data did not pass validation. Nothing was trained on it, and the model in use "
        "is the same as before.",
    ),
    News(
        "GateFailed",
        "Not good enough: [model] stays as it is",
        "A new model was trained and failed the quality gate. The model in use is the same as "
        "before.",
    ),
    News(
        "Promoted",
        "Promoted: [model] has a new champion",
        "From now on another version of the model is in use.",
    ),
    News(
        "RolledBack",
        "Rolled back: [model] has its former champion again",
        "From now on an earlier version of the model is in use again.",
    ),
    News(
        "Differs",
        "Not what it claims to be: a version of [model]",
        "A model was rebuilt from what it claims to come from, and something differs: in the model "
        "that is stored, in its record, in the commit, or in what came out. The verdict is a tag "
        "of the version; the model in use is the same as before.",
    ),
    News(
        "Damaged",
        "Changed afterwards: data or commit of [model]",
        "A model was proven to be what it claims to be, but something that it was made of was "
        "changed since: files of the data lake or of DVC's cache, or its commit in git. It should "
        "be brought back before it is needed.",
    ),
    News(
        "Drifted",
        "Drift: [model] meets other data than it was trained on",
        "The newest data, or what the model makes of them, have moved further than is allowed "
        "from what it was trained on. A retraining is started by itself.",
    ),
)

BODY = """\
{text}

Why: {{{{ (flow_run.state.message or "no reason was given") | truncate(3000, True) }}}}

Model: [model]
Run: {{{{ flow_run.name }}}} ({{{{ flow.name }}}}{{% if deployment %}}/{{{{ deployment.name }}}}\
{{% endif %}})
{page}"""

MODEL = (
    "{{{{ flow_run.parameters.model_name"
    " or flow_run.parameters.overrides.register.model_name or {default!r} }}}}"
)
"""The model that a run was told, in its own parameters or in the form, or that of params.yaml."""


OF_MODEL = '{% if flow.name != "reconcile" %}of [model]{% endif %}'


def apply(address: SecretStr | None = None) -> list[str]:
    """Have the server tell people, and give the blocks by which it does; none: nobody is told.

    address  of a webhook, for the block; one that the server has stays if there is none
    """
    if address is not None:
        webhook(address).save(BLOCK, overwrite=True)
    with get_client(sync_client=True) as client:
        found = blocks(client)
        for news in NEWS:
            if found:
                settle(client, automation(news, list(found.values())), may_be_off=True)
            else:
                _forget(client, news.name)
    return list(found)


def webhook(address: SecretStr) -> CustomWebhookNotificationBlock:
    """Describe the block that posts JSON as Slack, Mattermost and most others take it."""
    return CustomWebhookNotificationBlock(
        name=BLOCK,
        url="{{address}}",
        json_data={"text": "{{subject}}\n\n{{body}}"},
        headers=None,
        cookies=None,
        secrets=SecretDict({"address": address.get_secret_value()}),
    )


def blocks(client: SyncPrefectClient) -> dict[str, UUID]:
    """Find the blocks by which people are told: type and name, and the id of each."""
    wanted = {
        "block_documents": {"name": {"any_": [BLOCK]}},
        "block_schemas": {"block_capabilities": {"all_": ["notify"]}},
    }
    answer: list[dict[str, Any]] = client.request(
        "POST", "/block_documents/filter", json=wanted
    ).json()
    return {f"{each['block_type']['slug']}/{each['name']}": UUID(each["id"]) for each in answer}


def automation(news: News, block_ids: list[UUID]) -> AutomationCore:
    """Describe the automation that tells one kind of news by each of these blocks."""
    other: Labels = {"prefect.resource.role": "flow", "prefect.resource.name": "!stage"}
    subject, body = message(news)
    return AutomationCore(
        name=news.name,
        description=news.text,
        enabled=True,
        trigger=EventTrigger(
            match={"prefect.resource.id": "prefect.flow-run.*"},
            match_related=[ours(), other] if news.ours else other,
            for_each={"prefect.resource.id"},
            expect={f"prefect.flow-run.{news.state}"},
            posture=Posture.Reactive,
            threshold=1,
        ),
        actions=[
            SendNotification(block_document_id=each, subject=subject, body=body)
            for each in sorted(block_ids)
        ],
    )


def message(news: News) -> tuple[str, str]:
    """Give the templates, for Prefect's server, of the subject and the body."""
    page = url_for("flow-run", obj_id="{{ flow_run.id }}")
    default = params.load(PARAMS)["register"]["model_name"]
    model = MODEL.format(default=default)
    body = BODY.format(text=news.text, page=page)
    subject = news.subject.replace("[of model]", OF_MODEL)
    return subject.replace("[model]", model), body.replace("[model]", model)


def _forget(client: SyncPrefectClient, name: str) -> None:
    for each in client.read_automations_by_name(name):
        client.delete_automation(each.id)
