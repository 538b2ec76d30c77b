import math

import polars as pl
import pytest

from tasks import files


def test_json_is_rounded_and_readable(tmp_path):
    files.write_json(tmp_path / "new/a.json", {"b": 0.12345678, "a": [(1, -0.0)], "é": None})
    text = (tmp_path / "new/a.json").read_text()
    lines = ["{", '"b": 0.123457,', '"a": [', "[", "1,", "0.0", "]", "],", '"é": null', "}", ""]
    assert [line.strip() for line in text.split("\n")] == lines
    assert files.read_json(tmp_path / "new/a.json")["b"] == 0.123457


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_json_has_no_nan(tmp_path, value):
    with pytest.raises(ValueError, match="not JSON compliant"):
        files.write_json(tmp_path / "a.json", {"a": value})


def test_parquet_bytes_depend_on_content_alone(tmp_path):
    frame = pl.DataFrame({"a": range(1000), "b": [f"{i % 7}" for i in range(1000)]})
    files.write_parquet(tmp_path / "one.parquet", frame)
    files.write_parquet(tmp_path / "two.parquet", pl.concat([frame.head(3), frame.tail(997)]))
    assert (tmp_path / "one.parquet").read_bytes() == (tmp_path / "two.parquet").read_bytes()
    assert files.read_parquet(tmp_path / "one.parquet").equals(frame)
