import json
import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from tasks import train
from tasks.checkpoints import Place
from tasks.encoder import Dataset, Encoder
from tasks.errors import ParamsError
from tasks.examples import Columns
from tasks.models import ModelName, Models, load
from tasks.models.trees import Trees
from tasks.params import read

COLUMNS = Columns(keys=("id",), numeric=("x",), categorical=("c",), target="y")
TREES = Trees(
    learning_rate=0.3,
    max_depth=2,
    min_child_weight=1,
    subsample=0.8,
    colsample_bynode=1,
    reg_lambda=1,
    device="cpu",
    max_rounds=30,
    early_stopping_rounds=5,
)
PARAMS = Path(__file__).parent.parent / "params.yaml"
MODELS = read({"models": Models}, PARAMS)["models"].model_copy(update={"trees": TREES})


def examples(part: int, rows: int) -> pl.DataFrame:
    x = np.random.default_rng(part).normal(size=rows)
    return pl.DataFrame(
        {
            "id": [part * 1000 + row for row in range(rows)],
            "x": x,
            "c": [["a", "b", None][row % 3] for row in range(rows)],
            "y": pl.Series((x > 0).astype(int), dtype=pl.Int8),
        }
    )


@pytest.fixture
def featurized(tmp_path: Path) -> Path:
    folder = tmp_path / "featurize"
    folder.mkdir()
    parts = {"train": 80, "between": 20, "val": 40, "test": 40}
    for number, (part, rows) in enumerate(parts.items()):
        examples(number, rows).write_parquet(folder / f"{part}.parquet")
    encoder = Encoder.fit(examples(0, 80), COLUMNS)
    (folder / "encoder.json").write_text(encoder.to_json())
    return folder


def run(featurized: Path, name: str, *, refit: bool = False, seed: int = 1) -> Path:
    folder = featurized.parent / name
    settings = train.Train(refit=refit, checkpoint_seconds=60)
    train.run(featurized, folder, model="trees", models=MODELS, train=settings, seed=seed)
    return folder


@pytest.fixture(autouse=True)
def kept_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VERBATIM_CHECKPOINTS", str(tmp_path / "checkpoints"))


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def scores(featurized: Path, folder: Path) -> np.ndarray:
    encoder = Encoder.from_json((featurized / "encoder.json").read_text())
    return load(folder).predict(encoder.encode(pl.read_parquet(featurized / "test.parquet")))


def test_the_same_seed_gives_the_same_bytes_and_another_one_others(featurized: Path) -> None:
    first = content(run(featurized, "first"))
    assert sorted(first) == ["history.json", "learner.json", "model.ubj"]
    assert content(run(featurized, "again")) == first
    assert content(run(featurized, "other", seed=2))["model.ubj"] != first["model.ubj"]


def test_the_model_is_better_than_the_base_rate(featurized: Path) -> None:
    test = pl.read_parquet(featurized / "test.parquet")["y"].to_numpy()
    right = (scores(featurized, run(featurized, "train")) > 0.5) == test
    assert right.mean() > max(test.mean(), 1 - test.mean()) + 0.2


def test_history_has_the_scores_of_each_step(featurized: Path) -> None:
    history = json.loads(content(run(featurized, "train"))["history.json"])
    assert [entry["step"] for entry in history] == list(range(1, len(history) + 1))
    assert set(history[0]) == {"step", "train_log_loss", "val_log_loss"}
    assert history[-1]["train_log_loss"] < history[0]["train_log_loss"]


def test_a_refit_keeps_the_steps_and_learns_from_all_labels(featurized: Path) -> None:
    plain, refit = content(run(featurized, "plain")), content(run(featurized, "refit", refit=True))
    assert refit["history.json"] == plain["history.json"]
    assert refit["learner.json"] == plain["learner.json"], "as many trees"
    assert refit["model.ubj"] != plain["model.ubj"]
    flipped = examples(1, 20).with_columns((1 - pl.col("y")).cast(pl.Int8).alias("y"))
    flipped.write_parquet(featurized / "between.parquet")
    assert content(run(featurized, "plain"))["model.ubj"] == plain["model.ubj"]
    assert content(run(featurized, "refit", refit=True))["model.ubj"] != refit["model.ubj"]


def test_progress_lines_can_be_parsed(featurized: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(featurized, "train")
    lines = capsys.readouterr().out.splitlines()
    words, *_ = [line.split() for line in lines]
    assert words[:2] == ["progress", "1/30"]
    assert [word.split("=")[0] for word in words[2:]] == ["train_log_loss", "val_log_loss"]
    assert 0 < float(words[2].split("=")[1]) < 1


def test_a_refit_prints_its_progress_too(
    featurized: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = run(featurized, "train", refit=True)
    lines = capsys.readouterr().out.splitlines()
    trees = json.loads(content(folder)["learner.json"])["trees"]
    last = lines[-1].split()
    assert last[:2] == ["progress", f"{trees}/{trees}"]
    assert last[2].startswith("refit_train_log_loss=0.")


def test_nothing_is_left_of_a_training_that_ended(featurized: Path, tmp_path: Path) -> None:
    run(featurized, "train", refit=True)
    assert list((tmp_path / "checkpoints").iterdir()) == []


def test_only_the_first_process_prints_and_writes(
    featurized: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RANK", "1")
    assert not run(featurized, "train", refit=True).exists()
    assert not (featurized.parent / "checkpoints").exists()
    assert capsys.readouterr().out == ""


def test_what_a_result_depends_on_is_in_its_identity(
    featurized: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def identify(folder: Path = featurized, *, refit: bool = True, seconds: float = 60, **other):
        settings = train.Train(refit=refit, checkpoint_seconds=seconds)
        given = {"model": "trees", "models": MODELS, "train": settings, "seed": 1} | other
        return train.identify(folder, **given)

    same = identify()
    assert identify(seconds=1) == same, "when something is kept does not matter"
    assert identify(Path(shutil.copytree(featurized, tmp_path / "moved"))) == same
    deeper = MODELS.model_copy(update={"trees": TREES.model_copy(update={"max_depth": 3})})
    found = {same, identify(refit=False), identify(seed=2), identify(models=deeper)}
    monkeypatch.setenv("MKL_CBWR", "AVX512")
    found.add(identify())
    monkeypatch.setenv("WORLD_SIZE", "2")
    found.add(identify())
    examples(3, 41).write_parquet(featurized / "val.parquet")
    found.add(identify())
    (featurized / "val.parquet").rename(featurized / "late.parquet")
    found.add(identify())
    assert len(found) == 8


def test_progress_prints_the_first_and_the_last_step_and_does_not_flood(
    capsys: pytest.CaptureFixture[str],
) -> None:
    clock = iter([0.0, 0.0, 0.1, 0.2, 1.5, 1.5, 1.6, 1.6])
    progress = train.Progress(9, clock=lambda: next(clock))
    for step in range(1, 6):
        progress.report(step, {"val_log_loss": 1 / step})
    progress.close()
    assert capsys.readouterr().out == (
        "progress 1/9 val_log_loss=1.0\n"
        "progress 4/9 val_log_loss=0.25\n"
        "progress 5/9 val_log_loss=0.2\n"
    )
    assert [entry["step"] for entry in progress.history] == [1, 2, 3, 4, 5]


def test_an_unknown_model_is_named_with_those_that_exist(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text("model: tres\n")
    with pytest.raises(ParamsError, match=r"model: .*must be one of trees, network \(got 'tres'\)"):
        read({"model": ModelName}, tmp_path / "params.yaml")


def test_a_learner_needs_no_category_and_no_number(tmp_path: Path) -> None:
    for numeric, categorical in (("x",), ()), ((), ("c",)):
        columns = Columns(("id",), numeric, categorical, "y")
        encoder = Encoder.fit(examples(0, 80), columns)
        known, unknown = (encoder.encode(examples(part, 80)) for part in (0, 1))
        place = Place(tmp_path, "trained", 60)
        fitted, history = train.fit(MODELS.trees, known, unknown, seed=1, place=place)
        assert isinstance(unknown, Dataset)
        assert len(history) >= 1
        assert fitted.predict(unknown).shape == (80,)
