from pathlib import Path

import polars as pl
import pytest

from tasks import sample

HEADING = "customer_id  date number_of_cds  dollar_value\n"


def test_lines_become_integers_and_dates():
    rows = sample.purchases(HEADING + " 00002 19970112  5   77.00\n 00001 19970101  1   11.77\n")
    assert rows.columns == ["customer_id", "purchased_at", "quantity", "amount_cents"]
    assert rows["customer_id"].to_list() == [1, 2]
    assert rows["amount_cents"].to_list() == [1177, 7700]
    assert rows.schema["purchased_at"] == pl.Date


def test_a_line_without_cents_is_refused():
    with pytest.raises(ValueError, match="argument 2 is longer"):
        sample.purchases(HEADING + " 00001 19970101  1\n 00001 19970101  1 2.00\n")


def test_lake_holds_every_purchase_in_its_month(tmp_path: Path):
    sample.run(tmp_path)
    partitions = sorted(path.parent.name for path in tmp_path.glob("*/purchases.parquet"))
    assert partitions[0] == "month=1997-01"
    assert len(partitions) == 18
    rows = pl.read_parquet(tmp_path / "**/*.parquet", hive_partitioning=False)
    assert rows.height == 69_659
    assert rows["customer_id"].n_unique() == 23_570
    july = pl.read_parquet(tmp_path / "month=1997-07/purchases.parquet", hive_partitioning=False)
    assert july["purchased_at"].dt.strftime("%Y-%m").unique().to_list() == ["1997-07"]
