from pathlib import Path

import matplotlib as mpl
import numpy as np
import polars as pl
import pytest

from tasks import figures, metrics

NAMES = ("roc", "pr", "calibration", "confusion", "scores", "importance", "history")


def tally(seed: int) -> metrics.Tally:
    generator = np.random.default_rng(seed)
    score = generator.random(400)
    return metrics.tally((generator.random(400) < score).astype(np.int8), score)


def features(count: int) -> pl.DataFrame:
    strength = np.arange(count, 0, -1) / 10
    names = [f"feature_{number}_in_$_of_$_{'x' * 40}" for number in range(count)]
    return pl.DataFrame({"feature": names, "mean_abs_contribution": strength})


def draw(folder: Path, count: int = 25) -> dict[str, bytes]:
    scored, steps = (
        tally(0),
        [{"step": 1, "train_log_loss": 0.6, "val_log_loss": 0.7, "val_auc": 0.5}],
    )
    steps += [{"step": 2, "train_log_loss": 0.5, "val_log_loss": 0.6, "val_auc": 0.6}]
    figures.roc(folder / "roc.png", {"model": scored, "recency alone": tally(1)}, "churned")
    figures.precision_recall(folder / "pr.png", scored, "churned")
    figures.calibration(folder / "calibration.png", scored, 10, "churned")
    figures.confusion(folder / "confusion.png", scored, 0.5, "churned")
    figures.scores(folder / "scores.png", scored, 0.5, "churned")
    figures.importance(folder / "importance.png", features(count))
    figures.history(folder / "history.png", steps)
    return {name: (folder / f"{name}.png").read_bytes() for name in NAMES}


def test_every_figure_is_a_png_that_says_nothing_of_its_maker(tmp_path: Path) -> None:
    for name, content in draw(tmp_path).items():
        assert content.startswith(b"\x89PNG"), name
        assert len(content) > 10_000, name
        assert b"atplotlib" not in content, name
        assert b"tEXt" not in content, name


def test_the_users_own_settings_change_nothing_and_are_left_alone(tmp_path: Path) -> None:
    before = draw(tmp_path / "before")
    with mpl.rc_context({"font.size": 30, "axes.facecolor": "red", "savefig.dpi": 300}):
        after = draw(tmp_path / "after")
        assert mpl.rcParams["font.size"] == 30
    assert before == after


@pytest.mark.parametrize("count", [1, 3])
def test_few_features_are_drawn_too(tmp_path: Path, count: int) -> None:
    assert draw(tmp_path, count)["importance"].startswith(b"\x89PNG")


def test_one_class_alone_is_drawn_too(tmp_path: Path) -> None:
    alone = metrics.tally(np.ones(5, np.int8), np.array([0.1, 0.2, 0.3, 0.4, 0.5]))
    figures.roc(tmp_path / "roc.png", {"model": alone}, "churned")
    figures.precision_recall(tmp_path / "pr.png", alone, "churned")
    figures.scores(tmp_path / "scores.png", alone, 0.5, "churned")
    figures.confusion(tmp_path / "confusion.png", alone, 0.5, "churned")
    assert len(list(tmp_path.iterdir())) == 4
