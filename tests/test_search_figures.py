"""Figures of studies: what they say is in their titles and axes, so that is what is looked at."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib as mpl
import optuna
import pytest
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import TrialState, create_trial

from flows.sweep import figures
from tasks import search_figures
from tasks.figures import page
from tasks.search_figures import Axis

optuna.logging.set_verbosity(optuna.logging.WARNING)

DISTRIBUTIONS: dict[str, BaseDistribution] = {
    "rate": FloatDistribution(1e-4, 1.0, log=True),
    "depth": IntDistribution(1, 9),
    "width": CategoricalDistribution([32, 64, 128, 256, 512]),
    "flag": CategoricalDistribution([True, False]),
}
BEST_FIRST = {
    "rate": [0.1, 1e-4, 1.0, 0.01, 0.1, 0.5],
    "depth": [1, 9, 5, 3, 2, 8],
    "width": [512, 32, 64, 128, 256, 32],
    "flag": [True, False, True, True, False, False],
}
NAMES = ["history.png", "importance.png", "parallel_coordinates.png"]


def study(values: list[float], *, direction: str = "maximize") -> optuna.Study:
    """Make one with trials that are complete and come to these values."""
    made = optuna.create_study(direction=direction)
    for number, value in enumerate(values):
        params = {name: each[number % len(each)] for name, each in BEST_FIRST.items()}
        made.add_trial(create_trial(value=value, params=params, distributions=DISTRIBUTIONS))
    return made


def end(study: optuna.Study, state: TrialState, value: float | None = None) -> None:
    """End one more trial, after it was judged if a value is given."""
    trial = study.ask(DISTRIBUTIONS)
    if value is not None:
        trial.report(value, 1)
    study.tell(trial, state=state)


def drawn(study: optuna.Study, folder: Path) -> dict[str, bytes]:
    figures.draw(study, folder, metric="roc_auc")
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*"))}


@pytest.fixture
def titles(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The titles of all figures that are drawn from now on."""
    found: list[str] = []

    @contextmanager
    def noted(path: Path, title: str, **layout: Any) -> Iterator[list[Any]]:
        found.append(title)
        with page(path, title, **layout) as panels:
            yield panels

    monkeypatch.setattr(search_figures, "page", noted)
    return found


def test_every_figure_is_a_png_that_says_nothing_of_its_maker(tmp_path: Path) -> None:
    found = drawn(study([0.9, 0.5, 0.7, 0.6, 0.65, 0.55]), tmp_path)
    assert list(found) == NAMES
    for content in found.values():
        assert content.startswith(b"\x89PNG")
        assert len(content) > 10_000
        assert b"atplotlib" not in content
        assert b"tEXt" not in content


def test_equal_studies_are_equal_bytes_whatever_the_users_settings(tmp_path: Path) -> None:
    before = drawn(study([0.9, 0.5, 0.7]), tmp_path / "before")
    with mpl.rc_context({"font.size": 30, "axes.facecolor": "red", "savefig.dpi": 300}):
        after = drawn(study([0.9, 0.5, 0.7]), tmp_path / "after")
    assert before == after


@pytest.mark.parametrize(("direction", "best"), [("maximize", 2), ("minimize", 1)])
def test_the_first_of_the_best_is_named(
    tmp_path: Path, titles: list[str], direction: str, best: int
) -> None:
    values = [0.5, 0.3, 0.9, 0.3, 0.9]
    made = study(values, direction=direction)
    end(made, TrialState.PRUNED, 0.95 if direction == "maximize" else 0.1)
    end(made, TrialState.FAIL)
    drawn(made, tmp_path)
    assert titles[0] == f"trial {best} of 6 has the best roc_auc: {values[best]:.5f}"
    assert best == made.best_trial.number


def test_the_best_tenth_is_told_in_the_title(tmp_path: Path, titles: list[str]) -> None:
    drawn(study([0.5 + number / 100 for number in range(20)]), tmp_path)
    drawn(study([0.5, 0.6]), tmp_path)
    assert titles[1] == "where the best 2 of 20 complete trials lie"
    assert titles[4] == "where the best of 2 complete trials lies"


def test_what_matters_most_is_told_in_the_title(tmp_path: Path, titles: list[str]) -> None:
    made = optuna.create_study(direction="maximize")
    for number in range(40):
        params = {"depth": 1 + number % 9, "flag": number % 4 < 2}
        distributions = {name: DISTRIBUTIONS[name] for name in params}
        value = float(params["depth"])
        made.add_trial(create_trial(value=value, params=params, distributions=distributions))
    drawn(made, tmp_path)
    assert titles[-1].startswith("depth matters most to roc_auc (")


@pytest.mark.parametrize("values", [[0.7], [0.7, 0.7, 0.7]])
def test_where_all_are_equal_nothing_matters(tmp_path: Path, values: list[float]) -> None:
    assert list(drawn(study(values), tmp_path)) == ["history.png", "parallel_coordinates.png"]


def test_without_a_complete_trial_nothing_is_drawn(tmp_path: Path) -> None:
    made = optuna.create_study(direction="maximize")
    assert drawn(made, tmp_path) == {}
    end(made, TrialState.PRUNED, 0.6)
    end(made, TrialState.FAIL)
    made.ask(DISTRIBUTIONS)
    assert drawn(made, tmp_path) == {}


def test_trials_that_did_not_complete_are_no_hindrance(tmp_path: Path) -> None:
    made = optuna.create_study(direction="maximize")
    end(made, TrialState.PRUNED, 0.6)
    end(made, TrialState.FAIL)
    made.add_trials(study([0.5, 0.7]).trials)
    made.enqueue_trial({"depth": 1})
    made.ask(DISTRIBUTIONS)
    assert list(drawn(made, tmp_path)) == NAMES


@pytest.mark.parametrize(("name", "count"), [("rate", 1), *((name, 2) for name in DISTRIBUTIONS)])
def test_few_trials_of_one_parameter_are_drawn_too(tmp_path: Path, name: str, count: int) -> None:
    made = optuna.create_study(direction="minimize")
    for number in range(count):
        trial = made.ask({name: DISTRIBUTIONS[name]})
        made.tell(trial, number / 10)
    assert list(drawn(made, tmp_path)) == [each for each in NAMES if count > 1 or "imp" not in each]


def test_a_value_has_its_place_on_the_axis() -> None:
    linear = Axis("depth", (1, 9), is_range=True)
    assert [linear.place(value) for value in (1, 3, 9)] == [0, 0.25, 1]
    decades = Axis("rate", (1e-4, 1.0), is_range=True, log=True)
    assert [decades.place(value) for value in (1e-4, 1e-2, 1.0)] == pytest.approx([0, 0.5, 1])
    choices = Axis("flag", ("a", "b", "c"), is_range=False)
    assert [choices.place(value) for value in ("a", "b", "c")] == [0, 0.5, 1]


def test_an_axis_names_its_ends_and_few_choices() -> None:
    assert Axis("rate", (1e-4, 0.25), is_range=True, log=True).labels() == {0: "0.0001", 1: "0.25"}
    assert Axis("flag", (True, False), is_range=False).labels() == {0: "True", 1: "False"}
    four = Axis("kind", ("a", "b", "c", "d"), is_range=False).labels()
    assert list(four.values()) == ["a", "b", "c", "d"]
    assert list(four) == pytest.approx([0, 1 / 3, 2 / 3, 1])
    assert Axis("width", (32, 64, 128, 256, 512), is_range=False).labels() == {0: "32", 1: "512"}
