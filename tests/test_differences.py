"""Files of each kind, made by hand, and what is said of how they differ."""

import json
import random
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from tasks import differences, files
from tasks.differences import trees


@pytest.fixture
def told(tmp_path: Path):
    """Writes two files and tells the first difference: their suffix, what writes each."""

    def tell(suffix: str, expected, got) -> str | None:
        paths = [tmp_path / f"{name}{suffix}" for name in ("expected", "got")]
        for path, write in zip(paths, (expected, got), strict=True):
            write(path) if callable(write) else path.write_bytes(write)
        return differences.first(*paths)

    return tell


def written(table: pl.DataFrame):
    return lambda path: files.write_parquet(path, table)


def frame(**columns):
    return written(pl.DataFrame({"id": [1, 2, 3], "score": [0.1, 0.2, None], **columns}))


@pytest.mark.parametrize(
    ("got", "said"),
    [
        (frame(), None),
        (frame(more=[1, 2, 3]), "column more is there, and is not expected"),
        (frame(id=["1", "2", "3"]), "column id: String instead of Int64"),
        (
            frame(score=[0.1, 0.25, 0.3]),
            "column score, row 1: 0.25 instead of 0.2 (in 2 of 3 rows)",
        ),
        (
            frame(id=[1, 2, 4], score=[0.1, 0.2, 0.3]),
            "column id, row 2: 4 instead of 3 (in 1 of 3 rows, and in 1 more column)",
        ),
        (
            frame(id=[2, 1, 3], score=[0.2, 0.1, None]),
            (
                "column id, row 0: 2 instead of 1 (in 2 of 3 rows, and in 1 more column), "
                "the same rows in another order"
            ),
        ),
        (frame(id=[1, 2], score=[0.1, 0.2]), "2 rows instead of 3; the first are the same"),
        (
            frame(id=[5, 2], score=[0.1, 0.2]),
            "2 rows instead of 3; column id, row 0: 5 instead of 1 (in 1 of 2 rows)",
        ),
    ],
)
def test_tables_differ_by_column_and_row(told, got, said):
    assert told(".parquet", frame(), got) == said


def test_tables_of_the_same_rows_are_told_from_others(told):
    rows = pl.DataFrame({"x": [0.0, float("nan")], "list": [[1], None]})
    zeros = rows.with_columns(x=pl.Series([-0.0, float("nan")]))

    def plainly(path: Path):
        rows.write_parquet(path, compression="uncompressed")

    assert told(".parquet", written(rows), plainly).startswith("the same rows, in other bytes")
    said = "column x, row 0: -0.0 instead of 0.0 (in 1 of 2 rows)"
    assert told(".parquet", written(rows), written(zeros)) == said


def test_a_million_rows_are_compared_in_seconds(told):
    rows = pl.DataFrame({f"x{each}": np.arange(1_000_000) for each in range(5)})
    other = rows.with_columns(x4=pl.col("x4") + (pl.col("x4") == 999_999))
    said = told(".parquet", written(rows), written(other))
    assert said == "column x4, row 999999: 1000000 instead of 999999 (in 1 of 1000000 rows)"


DOCUMENT = {"test": {"roc_auc": 0.8}, "checks": [{"observed": 1}, {"observed": None}]}


@pytest.mark.parametrize(
    ("got", "said"),
    [
        ({**DOCUMENT, "test": {"roc_auc": 0.81}}, "test.roc_auc: 0.81 instead of 0.8"),
        (
            {**DOCUMENT, "checks": [{"observed": True}, {"observed": 2}, {}]},
            "checks[0].observed: true instead of 1 (and 2 more values)",
        ),
        (
            {"test": DOCUMENT["test"]},
            'checks: is missing ([{"observed": 1}, {"observed": null}] is',
        ),
        ({**DOCUMENT, "more": 1}, "more: is there, and is not expected (1)"),
        (dict(reversed(DOCUMENT.items())), "the same values, their keys in another order"),
    ],
)
def test_documents_differ_by_the_path_of_a_key(told, got, said):
    one, other = (json.dumps(each).encode() for each in (DOCUMENT, got))
    assert told(".json", one, other).startswith(said)
    assert told(".json", one, one) is None


def test_documents_of_the_same_values_are_told_from_others(told):
    said = told(".json", b'{"x": 1}', b'{"x":1}')
    assert said.startswith("the same values, written otherwise")


@pytest.mark.parametrize(
    ("expected", "got", "said"),
    [
        ("a\nbcd\ne", "a\nbxd\ne", "line 2: 'bxd' instead of 'bcd'"),
        ("a\n", "a\nb\n", "line 2: 'b' instead of no such line"),
        ("a\nb", "a", "line 1: the end instead of 'a'"),
        ("é" * 30 + "x", "é" * 30 + "y", f"line 1: …'{'é' * 10}y' instead of …'{'é' * 10}x'"),
        ("é" * 30, "ê" * 30, f"line 1: '{'ê' * 20}'… instead of '{'é' * 20}'…"),
    ],
)
def test_texts_differ_by_line(told, expected, got, said):
    assert told(".html", expected.encode(), got.encode()) == said


@pytest.mark.parametrize(
    ("got", "said"),
    [
        (b"\x89PNG\0\1\2\4", "byte 7 is 0x04 instead of 0x03 (8 bytes)"),
        (b"\x89PNG\0\1\2", "7 bytes instead of 8, and the same up to there"),
        (b"\x89PNG\0\1\2\3\4", "9 bytes instead of 8, and the same up to there"),
    ],
)
def test_pictures_differ_by_byte(told, got, said):
    assert told(".png", b"\x89PNG\0\1\2\3", got) == said


def weights(path: Path, **changed):
    from safetensors.numpy import save_file

    kept = {"a": np.zeros((2, 2), np.float32), "b": np.array(1.5), "nan": np.array([np.nan])}
    save_file({**kept, **changed}, path)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"a": np.zeros(4, np.float32)}, "tensor a: float32 [4] instead of float32 [2, 2]"),
        ({"c": np.array(1)}, "tensor c is there, and is not expected"),
        (
            {"b": np.array(1.75)},
            "tensor b (float64 []): largest deviation 0.25 (in 1 of 3 tensors)",
        ),
        (
            {"a": np.eye(2, dtype=np.float32) / 8, "nan": np.array([1.0])},
            (
                "tensor a (float32 [2, 2]): largest deviation 0.125 "
                "(in 2 of 3 tensors, at most inf in nan)"
            ),
        ),
    ],
)
def test_tensors_differ_by_name_and_deviation(told, changed, said):
    assert told(".safetensors", weights, lambda path: weights(path, **changed)) == said
    assert told(".safetensors", weights, weights) is None


@pytest.fixture(scope="module")
def booster():
    import xgboost

    draw = np.random.default_rng(1)
    rows = draw.random((200, 2))
    labels = (rows[:, 0] + rows[:, 1] > draw.random(200)).astype(int)
    table = xgboost.DMatrix(rows, labels, feature_names=["age", "visits"])
    return xgboost.train({"max_depth": 2, "nthread": 1}, table, num_boost_round=4)


def changed(booster, change) -> bytes:
    """The model with a change to what XGBoost writes as JSON."""
    import xgboost

    document = json.loads(bytes(booster.save_raw("json")))
    change(document["learner"])
    other = xgboost.Booster(model_file=bytearray(json.dumps(document).encode()))
    return bytes(other.save_raw("ubj"))


def tree(learner, at):
    return learner["gradient_booster"]["model"]["trees"][at]


def test_models_differ_by_tree_and_node(told, booster):
    def tell(change) -> str | None:
        return told(".ubj", booster.save_raw("ubj"), changed(booster, change))

    def leaf(learner):
        tree(learner, 2)["split_conditions"][-1] = 0.5

    def feature(learner):
        tree(learner, 1)["split_indices"][0] ^= 1

    def threshold(learner):
        tree(learner, 3)["split_conditions"][0] = 0.5

    def attribute(learner):
        learner["attributes"]["note"] = "x"

    assert tell(lambda _: None) is None
    assert "tree 2, node 6: leaf value 0.5 instead of " in tell(leaf)
    assert tell(leaf).endswith("(in 1 of 4 trees)")
    assert tell(feature).startswith("tree 1, node 0: splits by ")
    assert tell(threshold).startswith("tree 3, node 0: threshold 0.5 instead of ")
    assert tell(attribute) == 'learner.attributes.note: is there, and is not expected ("x")'
    said = told(".ubj", booster.save_raw("ubj"), booster[:3].save_raw("ubj"))
    assert said == "3 trees instead of 4; the first are the same"


def test_weights_of_dropped_trees_are_compared_too(told):
    def dart(weights) -> bytes:
        import xgboost

        rows = xgboost.DMatrix(np.arange(20.0).reshape(-1, 1), np.arange(20) % 2)
        grown = xgboost.train({"booster": "dart", "nthread": 1}, rows, num_boost_round=2)
        document = json.loads(bytes(grown.save_raw("json")))
        document["learner"]["gradient_booster"]["weight_drop"] = weights
        whole = xgboost.Booster(model_file=bytearray(json.dumps(document).encode()))
        return bytes(whole.save_raw("ubj"))

    said = told(".ubj", dart([1.0, 1.0]), dart([1.0, 0.5]))
    assert said == "learner.gradient_booster.weight_drop[1]: 0.5 instead of 1.0"


def test_models_are_read_as_xgboost_reads_them(booster, tmp_path: Path):
    (tmp_path / "model.ubj").write_bytes(booster.save_raw("ubj"))
    read = trees.read(tmp_path / "model.ubj")["learner"]
    known = json.loads(bytes(booster.save_raw("json")))["learner"]
    assert read["attributes"] == known["attributes"]
    assert read["learner_model_param"] == known["learner_model_param"]
    for at in range(4):
        assert tree(read, at).keys() == tree(known, at).keys()
        for key in trees.STRUCTURE:
            assert np.allclose(tree(read, at)[key], tree(known, at)[key])


def test_no_damage_is_too_much(told, booster, tmp_path: Path):
    whole = {".ubj": bytes(booster.save_raw("ubj")), ".json": json.dumps(DOCUMENT).encode()}
    frame()(tmp_path / "whole")
    whole[".parquet"] = (tmp_path / "whole").read_bytes()
    weights(tmp_path / "whole")
    whole[".safetensors"] = (tmp_path / "whole").read_bytes()
    draw = random.Random(7)
    for suffix, data in whole.items():
        for _ in range(60):
            damaged = bytearray(data)
            damaged[draw.randrange(len(data))] ^= draw.randrange(1, 256)
            assert told(suffix, data, damaged)
        assert "is no readable" in told(suffix, data, data[: len(data) // 2])
        assert "the expected file is no readable" in told(suffix, b"", data)


class TestFolders:
    def test_the_first_file_by_path_is_told_and_the_others_counted(self, tmp_path: Path):
        for name, text in {"a": "same", "b/c": "one", "d": "one"}.items():
            for side in ("expected", "got"):
                (tmp_path / side / name).parent.mkdir(parents=True, exist_ok=True)
                (tmp_path / side / name).write_text(text)
        sides = tmp_path / "expected", tmp_path / "got"
        assert differences.first(*sides) is None
        (sides[1] / "d").unlink()
        assert differences.first(*sides) == "d: is missing"
        (sides[1] / "b/c").write_text("two")
        assert differences.first(*sides) == "b/c: line 1: 'two' instead of 'one' (also d)"
        (sides[1] / "a2").write_text("")
        assert differences.first(*sides).startswith("a2: is there, and is not expected")

    def test_a_folder_is_no_file(self, tmp_path: Path):
        (tmp_path / "folder").mkdir()
        (tmp_path / "file").touch()
        said = "a folder instead of a file"
        assert differences.first(tmp_path / "file", tmp_path / "folder") == said
        assert differences.first(tmp_path / "file", tmp_path / "none") == "is missing"

    def test_a_file_of_a_cache_is_of_the_other_ones_kind(self, tmp_path: Path):
        (tmp_path / "0a1b").write_text('{"x": 1}')
        (tmp_path / "x.json").write_text('{"x": 2}')
        said = differences.first(tmp_path / "0a1b", tmp_path / "x.json")
        assert said == "x: 2 instead of 1"


RECORD = {
    "cpu": "Xeon",
    "cpu_count": "2",
    "lock_sha256": "0123456789",
    "variables": "none",
    "numpy": "2.4.0",
    "zope": "1",
    "ancient": "1",
}


def test_causes_are_told_the_likeliest_first():
    here = {**RECORD, "cpu_count": "8", "lock_sha256": "9876543210", "numpy": "2.4.1", "zope": "2"}
    here |= {"variables": "OMP_NUM_THREADS=4", "cpu_features": "avx2", "new": "1"}
    del here["ancient"]
    assert differences.causes(RECORD, RECORD) == []
    assert differences.causes(RECORD, here) == [
        "requirements.lock (SHA-256): 01234567 -> 98765432",
        "libraries: numpy 2.4.0 -> 2.4.1, zope 1 -> 2",
        "installed only there: ancient",
        "installed only here: new",
        "variables that choose threads or instructions: +OMP_NUM_THREADS=4",
        "processors: 2 -> 8",
    ]
