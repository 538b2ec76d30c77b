"""The registered model: its versions, who is champion, and the ledger of how that came about.

Every move of an alias is a decision in the ledger. It is announced in one tag before anything
moves, so that one that was cut off is completed by whoever decides next; an alias that stands
elsewhere without such an announcement was moved by hand, and is recorded as found.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from tasks import ledger, store, tracking
from tasks.errors import ParamsError, TemporaryError
from tasks.ledger import Decision, Kind
from tasks.store import GATE, LINEAGE_KEY

CHAMPION, PREVIOUS = "champion", "previous"
"""Aliases: the version in use, and the one that a rollback goes back to."""

PENDING = "ledger-pending"
"""Tag of a registered model: a decision that is being carried out."""


@dataclass(frozen=True)
class Version:
    """A version of the registered model, and what its tags tell.

    passed           whether its run passed the gate; None if the run is gone, or tells nothing
    dataset_version  up to when its data goes, as ISO date; empty if unknown
    source           what MLflow has its model from
    """

    number: int
    run_id: str
    lineage_key: str
    dataset_version: str
    passed: bool | None
    tags: Mapping[str, str]
    source: str = ""


class Registry:
    """A registered model, opened by `opened`."""

    def __init__(self, model_name: str) -> None:
        self.model_name = model_name
        self._client = tracking.connect_to_write().MlflowClient()

    def _model(self) -> Any:
        found = self._client.search_registered_models(f"name = '{self.model_name}'")
        return found[0] if found else None

    @property
    def tags(self) -> dict[str, str]:
        """The tags of the model; none if no version was ever registered."""
        model = self._model()
        return {} if model is None else dict(model.tags)

    def decisions(self) -> list[Decision]:
        """Give the ledger, the first decision first."""
        return ledger.read(self.tags)

    @property
    def aliases(self) -> dict[str, int]:
        """The version that each alias points to."""
        model = self._model()
        found = {} if model is None else model.aliases
        return {name: int(number) for name, number in found.items()}

    def alias(self, name: str) -> int | None:
        """Give the version that an alias points to."""
        return self.aliases.get(name)

    def version(self, number: int) -> Version:
        """Look up a version; raises ParamsError, naming those there are, for an unknown one."""
        its = self._client.search_model_versions(f"name = '{self.model_name}'")
        known = {int(each.version): each for each in its}
        if number not in known:
            there = ", ".join(map(str, sorted(known))) or "none"
            raise ParamsError(
                f"{self.model_name}: version must be one of those registered: {there} "
                f"(got {number})\nnext: python -m flows ledger"
            )
        return self._read(known[number])

    def versions(self) -> list[int]:
        """Give the numbers of all versions, the oldest first."""
        its = self._client.search_model_versions(f"name = '{self.model_name}'")
        return sorted(int(each.version) for each in its)

    def version_of(self, run_id: str) -> Version | None:
        """Give the newest version that was made of a run."""
        its = f"name = '{self.model_name}' and run_id = '{run_id}'"
        found = self._client.search_model_versions(its)
        return self._read(max(found, key=lambda each: int(each.version))) if found else None

    def _read(self, found: Any) -> Version:
        from mlflow.exceptions import MlflowException

        try:
            gate = self._client.get_run(found.run_id).data.tags.get(GATE)
        except MlflowException as error:
            if not tracking.is_absent(error):
                raise
            gate = None
        tags = dict(found.tags)
        return Version(
            number=int(found.version),
            run_id=str(found.run_id),
            lineage_key=tags.get(LINEAGE_KEY, ""),
            dataset_version=tags.get("dataset_version", ""),
            passed=None if gate is None else gate == "passed",
            tags=tags,
            source=str(found.source),
        )

    def tag(self, number: int, name: str, value: str) -> None:
        """Write a tag of a version."""
        self._client.set_model_version_tag(self.model_name, str(number), name, value)

    def remember(self, name: str, value: str) -> None:
        """Write a tag of the model."""
        self._client.set_registered_model_tag(self.model_name, name, value)

    def copies(self) -> dict[str, str]:
        """Give the tags of decisions that stand with any version."""
        its = self._client.search_model_versions(f"name = '{self.model_name}'")
        return {
            name: text
            for each in its
            for name, text in each.tags.items()
            if name.startswith(ledger.PREFIX)
        }

    def champion(self) -> Version | None:
        """Give the champion; None if there is none yet."""
        number = self.alias(CHAMPION)
        return None if number is None else self.version(number)

    def decide(
        self,
        kind: Kind,
        *,
        by: str,
        seen: int | None,
        subject: int | None,
        to: int | None,
        reason: str,
        evidence: Mapping[str, Any] | None = None,
    ) -> Decision:
        """Take a decision: append it, and move the aliases as it says; give it as it is kept.

        seen  the champion that it was taken of

        Raises TemporaryError if another one is champion by now: another machine has decided.
        """
        champion = self.alias(CHAMPION)
        if champion != seen:
            raise TemporaryError(
                f"{self.model_name}: the champion must be {_named(seen)}, of which this was "
                f"decided (got {_named(champion)}: somebody else has decided meanwhile)\n"
                "next: see python -m flows ledger, and try again"
            )
        tracking.make_sure_of(self._client, self.model_name)
        decision = self._appended(
            Decision(
                kind=kind,
                at=datetime.now(UTC).isoformat(timespec="seconds"),
                by=by,
                champion=champion,
                subject=subject,
                to=to,
                reason=reason,
                evidence=evidence or {},
            )
        )
        self._client.set_registered_model_tag(self.model_name, PENDING, decision.to_json())
        self._carry_out(decision)
        return decision

    def _appended(self, decision: Decision) -> Decision:
        """Give a decision its place behind the last one."""
        known = self.decisions()
        if not known:
            return decision
        return replace(decision, number=known[-1].number + 1, before=known[-1].id)

    def settle(self) -> None:
        """Complete a decision that was cut off; record a champion that somebody else has made."""
        if (text := self.tags.get(PENDING)) is not None:
            if (pending := ledger.parsed(text)) is not None:
                self._carry_out(pending)
            else:
                self._client.delete_registered_model_tag(self.model_name, PENDING)
        known, champion = self.decisions(), self.alias(CHAMPION)
        last = known[-1].to if known else None
        if champion != last:
            self.decide(
                "found",
                by="unknown",
                seen=champion,
                subject=champion,
                to=champion,
                reason=f"the alias {CHAMPION} was found on {_named(champion)}, not on "
                f"{_named(last)} as the ledger had it: it was moved past the ledger",
            )

    def _carry_out(self, decision: Decision) -> None:
        """Do what a decision says; what is done already is done again to no effect.

        The aliases stay if its version was deleted meanwhile: then it stands in the ledger alone.
        """
        text, name = decision.to_json(), self.model_name
        self._client.set_registered_model_tag(name, decision.tag, text)
        subject = decision.subject
        if subject is not None and self._is_there(subject):
            self.tag(subject, decision.tag, text)
        if decision.to is None or self._is_there(decision.to):
            self._point(CHAMPION, decision.to)
            self._point(PREVIOUS, self._before(decision.to))
        self._client.delete_registered_model_tag(name, PENDING)

    def _before(self, champion: int | None) -> int | None:
        """Find the version that was champion before, of those that are there."""
        line = ledger.champions(self.decisions())[:-1]
        others = (each for each in reversed(line) if each != champion and self._is_there(each))
        return next(others, None)

    def _is_there(self, number: int) -> bool:
        its = f"name = '{self.model_name}' and version_number = {number}"
        return bool(self._client.search_model_versions(its))

    def _point(self, alias: str, number: int | None) -> None:
        if number is not None:
            self._client.set_registered_model_alias(self.model_name, alias, str(number))
        elif self.alias(alias) is not None:
            self._client.delete_registered_model_alias(self.model_name, alias)


def _named(number: int | None) -> str:
    return "no version" if number is None else f"version {number}"


@contextmanager
def opened(model_name: str) -> Iterator[Registry]:
    """Open the registry to decide in it, alone on this machine; complete what was cut off.

    Raises TemporaryError if the store does not answer.
    """
    with tracking.alone(), store.reachable():
        registry = Registry(model_name)
        registry.settle()
        yield registry


@contextmanager
def looked_at(model_name: str) -> Iterator[Registry]:
    """Open the registry to read it.

    Raises TemporaryError if the store does not answer.
    """
    with store.reachable():
        yield Registry(model_name)
