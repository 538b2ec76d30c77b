"""Tell people what a sweep came to: in the terminal, in Prefect, and as text for MLflow."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from optuna.trial import FrozenTrial, TrialState
from prefect.artifacts import create_markdown_artifact
from rich import box
from rich.console import Console
from rich.table import Table

from flows.report import markdown_table
from flows.sweep.plan import Plan
from flows.sweep.proposal import Proposal
from flows.sweep.study import OUTCOME, WORDS, Search, named
from tasks import store

BEST = 5
"""Trials that the final table names."""


def counted(search: Search) -> str:
    """Count the trials by what became of them."""
    counts = {word: len(search.trials(state)) for state, word in WORDS.items()}
    return ", ".join(f"{count} {word}" for word, count in counts.items() if count) or "no trial"


class Report:
    """What a sweep came to, in words."""

    def __init__(self, plan: Plan, search: Search, proposal: Proposal) -> None:
        self._plan, self._search, self._proposal = plan, search, proposal

    def summary(self) -> dict[str, Any]:
        """Give what is recorded of it in MLflow."""
        proposal, metric = self._proposal, self._plan.sweep.metric
        best, current = float(proposal.best.value or 0.0), proposal.value
        return {
            "metrics": {
                f"winner/{metric}": best,
                f"current/{metric}": current,
                **{f"gain/{name}": value for name, value in proposal.gain.items()},
                **{f"gain_of_choosing/{name}": value for name, value in proposal.chosen.items()},
            },
            "tags": {"winner": named(proposal.best.number)},
            "texts": {"report.md": self.markdown(), "params.diff": proposal.diff + "\n"},
        }

    def markdown(self) -> str:
        """Write the report."""
        head, *lines = self._best()
        parts = [
            f"# {self._plan.name}",
            f"{counted(self._search)}. {'. '.join(self._words())}.",
            f"## The {len(head) - 2} best on the validation part",
            markdown_table(head, lines),
        ]
        if self._proposal.diff:
            parts += ["## Proposed", f"```diff\n{self._proposal.diff}\n```"]
        return "\n\n".join(parts) + "\n"

    def publish(self) -> None:
        """Make the artifact of the flow run."""
        create_markdown_artifact(self.markdown(), key="sweep-report")

    def show(self, *, run_id: str | None, applied: bool) -> None:
        """Print the best trials, the proposal, the record, and what to type next."""
        console = Console(soft_wrap=True)
        head, *lines = self._best()
        shown = Table(title=self._plan.name, box=box.SIMPLE, padding=(0, 1, 0, 0))
        for cell in head:
            shown.add_column(cell, no_wrap=True)
        for cells in lines:
            shown.add_row(*cells)
        console.print(shown)
        console.print(*self._words(), sep="\n", highlight=False)
        if self._proposal.diff:
            console.print(self._proposal.diff, markup=False, highlight=False)
        console.print(f"MLflow run     {run_id or 'none'}")
        for line in self._next(applied=applied):
            console.print(line, highlight=False)

    def _best(self) -> Iterator[list[str]]:
        """Give the rows of a table with a column for each of the best trials."""
        plan = self._plan
        ranked = sorted(self._search.trials(TrialState.COMPLETE), key=self._rank)[:BEST]
        yield ["trial", *(f"{trial.number:04}" for trial in ranked), "current"]
        yield [plan.sweep.metric, *(f"{trial.value:.5f}" for trial in ranked), self._value()]
        yield ["over the current", *(f"{self._gain(trial):+.5f}" for trial in ranked), ""]
        yield ["steps", *(str(trial.user_attrs[OUTCOME]["steps"]) for trial in ranked), ""]
        for name in plan.space:
            values = [*(trial.params[name] for trial in ranked), plan.current[name]]
            yield [name, *map(_text, values)]

    def _value(self) -> str:
        return f"{self._proposal.value:.5f}"

    def _rank(self, trial: FrozenTrial) -> tuple[float, int]:
        return -self._gain(trial), trial.number

    def _gain(self, trial: FrozenTrial) -> float:
        sign = 1 if self._plan.is_larger_better else -1
        return sign * (float(trial.value or 0.0) - self._proposal.value) + 0.0  # no -0.00000

    def _words(self) -> Iterator[str]:
        proposal, metric = self._proposal, self._plan.sweep.metric
        yield (
            f"winner         {named(proposal.best.number)}: {metric} {proposal.best.value:.5f}, "
            f"current {proposal.value:.5f}, on the validation part"
        )
        if proposal.changes:
            yield f"gain           {_interval(proposal.gain)} as it stands"
            yield f"               {_interval(proposal.chosen)} on rows it was not chosen by"
        yield f"verdict        {proposal.verdict}"

    def _next(self, *, applied: bool) -> Iterator[str]:
        yield f"look           {store.look()}"
        missing = self._plan.sweep.n_trials - len(self._search.done())
        if missing > 0:
            yield f"next           python -m flows sweep   # {missing} trials are missing"
        if applied:
            yield "next           python -m flows train; git commit -a"
        elif self._proposal.is_better:
            yield "next           python -m flows sweep --apply   # or --train: train with it too"
        else:
            yield "next           widen sweep.space, or raise sweep.n_trials"


def _interval(gain: Any) -> str:
    return (
        f"{gain['value']:+.5f} (95 % from {gain['low']:+.5f} to {gain['high']:+.5f}, better with "
        f"probability {gain['probability_better']:.2f})"
    )


def _text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else json.dumps(value)
