"""Lay out the sample data lake: real purchases at a CD shop, one Parquet file a month.

The 69,659 purchases of 23,570 customers (CDNOW, 1997-01-01 to 1998-06-30; Fader & Hardie) travel as
a text file inside the locked package `lifetimes`, which is read as data and never imported.

    python -m tasks.sample data/lake
"""

from __future__ import annotations

from importlib.metadata import distribution
from pathlib import Path

import polars as pl

from tasks import command, files


def purchases(text: str) -> pl.DataFrame:
    """Parse lines of customer, date, number of CDs and dollars, with a heading line.

    Gives `customer_id`, `purchased_at` (Date), `quantity` and `amount_cents`, sorted by all four.
    """
    customer, day, quantity, dollars = zip(
        *(line.split() for line in text.splitlines()[1:] if line.strip()), strict=True
    )
    return pl.DataFrame(
        {
            "customer_id": pl.Series(customer).cast(pl.Int64),
            "purchased_at": pl.Series(day).str.to_date("%Y%m%d"),
            "quantity": pl.Series(quantity).cast(pl.Int64),
            "amount_cents": pl.Series(dollars).str.replace(".", "", literal=True).cast(pl.Int64),
        }
    ).sort("purchased_at", "customer_id", "quantity", "amount_cents")


def run(lake_folder: Path) -> None:
    """Write `month=YYYY-MM/purchases.parquet` for each month of the packaged purchases."""
    packaged = distribution("lifetimes").locate_file("lifetimes/datasets/CDNOW_master.txt")
    rows = purchases(Path(str(packaged)).read_text(encoding="ascii"))
    for (month,), part in rows.group_by(pl.col("purchased_at").dt.strftime("%Y-%m")):
        files.write_parquet(lake_folder / f"month={month}" / "purchases.parquet", part)


if __name__ == "__main__":
    command.main(run)
