"""A table nobody has seen, set up as docs/own-table.md says."""

import re
import subprocess
from pathlib import Path
from typing import Any

import polars as pl
import yaml
from checkouts import ROOT, copy_checkout
from sklearn.datasets import load_breast_cancer

SECTION = (ROOT / "docs/own-table.md").read_text()
REPLACED, CHANGED = map(yaml.safe_load, re.findall(r"```yaml\n(.*?)```", SECTION, re.DOTALL))
(COMMANDS,) = re.findall(r"```\n(dvc repro ingest\n.*?)```", SECTION, re.DOTALL)


def patients() -> pl.DataFrame:
    """The breast cancer table of scikit-learn, with columns made up around it."""
    known = load_breast_cancer(as_frame=True).frame
    rows = range(len(known))
    return pl.from_pandas(known.drop(columns="target")).with_columns(
        pl.Series("patient_id", [f"p{row:03d}" for row in rows]),
        pl.Series("name", [f"Patient {row}" for row in rows]),
        pl.Series("clinic", [("north", "south", None, "west")[row % 4] for row in rows]),
        pl.Series("cigarettes", [(0, None, 10, 20.5)[row % 7 % 4] for row in rows], strict=False),
        pl.Series("diagnosis", [("malignant", "benign")[value] for value in known["target"]]),
    )


def write(table: pl.DataFrame, folder: Path) -> None:
    """Two CSV files: the first has whole cigarettes only, and no clinic."""
    folder.mkdir()
    first = table.head(100).with_columns(
        pl.lit(None).alias("clinic"), pl.col("cigarettes").cast(pl.Int64)
    )
    first.write_csv(folder / "1.csv")
    table.tail(-100).write_csv(folder / "2.csv")


def changed(values: dict[str, Any], by: dict[str, Any]) -> dict[str, Any]:
    """Copy a mapping with some of its leaves changed, all of which it must have."""
    assert by.keys() <= values.keys()
    both = {
        key: changed(values[key], value) if isinstance(value, dict) else value
        for key, value in by.items()
    }
    return {**values, **both}


def own_table(target: Path) -> Path:
    """Make a checkout whose parameters are those of the table."""
    checkout = copy_checkout(target)
    file = checkout / "params.yaml"
    values = {**yaml.safe_load(file.read_text()), **REPLACED}
    file.write_text(yaml.safe_dump(changed(values, CHANGED)))
    write(patients(), checkout / REPLACED["ingest"]["source"])
    return checkout


def draft(checkout: Path, environment: dict[str, str]) -> None:
    """Draft the suite of expectations, without training."""
    script = COMMANDS.replace("python -m flows train\n", "")
    subprocess.run(["bash", "-euc", script], cwd=checkout, env=environment, check=True)
