"""The registry against a real store: aliases follow decisions, whatever is cut off or lost."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from left_behind import ASKED, MLFLOW_WARNS

from flows import decisions
from tasks import ledger, registry, tracking
from tasks.errors import ParamsError, TemporaryError
from tasks.registry import CHAMPION, PENDING, PREVIOUS, Registry

pytestmark = MLFLOW_WARNS
MODEL = ASKED["model_name"]


@pytest.fixture
def client(here: Path) -> Any:
    """The store with three versions of one run; nobody is champion."""
    client = tracking.connect_to_write().MlflowClient()
    (first,) = client.search_model_versions(f"name = '{MODEL}'")
    for _ in range(2):
        client.create_model_version(MODEL, first.source, first.run_id, tags=first.tags)
    return client


def decide(kind: str, to: int | None, subject: int | None = None) -> ledger.Decision:
    with registry.opened(MODEL) as models:
        seen = models.alias(CHAMPION)
        return models.decide(
            kind, by="tests", seen=seen, subject=subject or to, to=to, reason="to see"
        )


def aliases() -> tuple[int | None, int | None]:
    with registry.looked_at(MODEL) as models:
        return models.alias(CHAMPION), models.alias(PREVIOUS)


def test_aliases_follow_promotions_and_rollbacks(client: Any):
    assert aliases() == (None, None)
    seen = []
    for kind, to in [("promoted", 1), ("promoted", 3), ("kept", 3), ("rolled back", 1)]:
        decide(kind, to)
        seen.append(aliases())
    assert seen == [(1, None), (3, 1), (3, 1), (1, None)]


def test_every_decision_stands_with_the_model_and_with_its_version(client: Any):
    decide("promoted", 1)
    kept = decide("kept", 1, subject=2)
    tags = client.get_registered_model(MODEL).tags
    assert [each.number for each in ledger.read(tags)] == [1, 2]
    assert ledger.gaps(tags) == []
    assert client.get_model_version(MODEL, "2").tags[kept.tag] == kept.to_json()
    assert PENDING not in tags


def test_the_ledger_outlives_runs_and_versions(client: Any):
    decide("promoted", 1)
    decide("promoted", 2)
    decide("promoted", 3)
    client.delete_run(client.get_model_version(MODEL, "1").run_id)
    client.delete_model_version(MODEL, "2")
    with registry.opened(MODEL) as models:
        assert [each.to for each in models.decisions()] == [1, 2, 3]
        assert models.champion().number == 3
    decide("kept", 3, subject=1)
    assert aliases() == (3, 1)  # 2 is gone


@pytest.mark.parametrize(
    "step", ["set_registered_model_tag", "set_model_version_tag", "set_registered_model_alias"]
)
def test_a_decision_that_is_cut_off_is_completed_by_the_next_look(
    client: Any, step: str, monkeypatch: pytest.MonkeyPatch
):
    decide("promoted", 1)
    with registry.opened(MODEL) as models:
        real = getattr(models._client, step)

        def cut_off(*given: Any) -> None:
            if PENDING in given:
                real(*given)
            else:
                raise KeyboardInterrupt

        with monkeypatch.context() as patched:
            patched.setattr(models._client, step, cut_off)
            with pytest.raises(KeyboardInterrupt):
                models.decide("promoted", by="tests", seen=1, subject=2, to=2, reason="to see")
    with registry.opened(MODEL) as models:
        assert [each.to for each in models.decisions()] == [1, 2]
        assert PENDING not in models.tags
    assert aliases() == (2, 1)


def test_a_decision_cut_off_about_a_version_deleted_since_stops_nobody(client: Any):
    last = decide("promoted", 1)
    cut_off = replace(last, number=2, before=last.id, champion=1, subject=3, to=3)
    client.set_registered_model_tag(MODEL, PENDING, cut_off.to_json())
    client.delete_model_version(MODEL, "3")
    with registry.opened(MODEL) as models:
        assert [each.kind for each in models.decisions()] == ["promoted", "promoted", "found"]
        assert PENDING not in models.tags
    assert aliases()[0] == 1


def test_a_note_in_the_place_of_a_decision_cut_off_stops_nobody(client: Any):
    decide("promoted", 1)
    client.set_registered_model_tag(MODEL, PENDING, "hello")
    decide("promoted", 2)
    with registry.looked_at(MODEL) as models:
        assert [each.to for each in models.decisions()] == [1, 2]
        assert PENDING not in models.tags
    assert aliases() == (2, 1)


def test_an_alias_that_was_moved_by_hand_is_found_and_not_moved_back(client: Any):
    decide("promoted", 1)
    client.set_registered_model_alias(MODEL, CHAMPION, "3")
    with registry.opened(MODEL) as models:
        found = models.decisions()[-1]
    assert (found.kind, found.champion, found.to) == ("found", 3, 3)
    assert "version 3, not on version 1" in found.reason
    with registry.opened(MODEL) as models:
        assert len(models.decisions()) == 2
    assert aliases() == (3, 1)


def test_who_reads_the_ledger_is_told_of_an_alias_that_was_moved_past_it(client: Any):
    decide("promoted", 1)
    with registry.looked_at(MODEL) as models:
        assert decisions.of(models)[1] == []
        client.set_registered_model_alias(MODEL, CHAMPION, "3")
        (fault,) = decisions.of(models)[1]
    assert fault.startswith("the alias champion is on version 3: it was moved past the ledger")


def test_an_alias_that_was_deleted_by_hand_is_found(client: Any):
    decide("promoted", 1)
    client.delete_registered_model_alias(MODEL, CHAMPION)
    with registry.opened(MODEL) as models:
        assert models.decisions()[-1].kind == "found"
        assert models.champion() is None


def test_an_unknown_version_names_those_there_are(client: Any):
    with registry.looked_at(MODEL) as models, pytest.raises(ParamsError, match=r"1, 2, 3 \(got 9"):
        models.version(9)


def test_a_version_tells_of_its_run(client: Any):
    with registry.looked_at(MODEL) as models:
        version = models.version(1)
        assert version.passed is True
        assert version.dataset_version == "1998-07-01"
        client.delete_run(version.run_id)
        assert models.version(1).lineage_key == version.lineage_key


def test_a_model_without_any_version_can_have_a_ledger(here: Path):
    with registry.opened("another") as models:
        words = {"by": "tests", "reason": "the data was refused"}
        models.decide("kept", seen=None, subject=None, to=None, **words)
    with registry.looked_at("another") as models:
        assert [each.reason for each in models.decisions()] == ["the data was refused"]
        assert models.champion() is None


def test_a_decision_about_a_champion_that_is_none_any_more_is_not_taken(client: Any):
    decide("promoted", 1)
    first, second = Registry(MODEL), Registry(MODEL)  # as on two machines
    first.decide("promoted", by="tests", seen=1, subject=2, to=2, reason="to see")
    with pytest.raises(TemporaryError, match=r"must be version 1.*\(got version 2: somebody"):
        second.decide("promoted", by="tests", seen=1, subject=3, to=3, reason="to see")
    with registry.looked_at(MODEL) as models:
        assert [each.to for each in models.decisions()] == [1, 2]
        assert ledger.gaps(models.tags, models.copies()) == []


def test_a_version_that_is_champion_twice_has_another_one_before_it(client: Any):
    for to in (3, 1, 3):
        decide("promoted", to)
    client.delete_registered_model_alias(MODEL, PREVIOUS)
    client.delete_model_version(MODEL, "1")
    decide("kept", 3, subject=2)
    assert aliases() == (3, None)
