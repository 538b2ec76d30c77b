"""Turn rows into examples, split them without leakage, and fit the encoder on the training part.

Parts keep their raw columns; whoever needs arrays encodes them. `data/validate` is not read: it is
named so that no row becomes an example before it is validated.

    python -m tasks.featurize data/ingest data/validate data/featurize
"""

from __future__ import annotations

from dataclasses import asdict
from datetime import date
from pathlib import Path

import polars as pl

from tasks import command, files, seeds
from tasks.encoder import Encoder
from tasks.errors import DataValidationError
from tasks.examples import PARTS, Split
from tasks.recipes import Recipe

NAMED = 5
"""How many offending keys an error names."""


def counts(split: Split) -> dict[str, dict[str, int]]:
    """Count the `rows` of each part, and the `positives` among them."""
    return {
        part: {
            "rows": len(split.parts[part]),
            "positives": int(split.parts[part][split.columns.target].sum()),
        }
        for part in PARTS
    }


def check(split: Split) -> None:
    """See that every part can serve and that none shares a key with another.

    Raises DataValidationError for a key that is not unique, and for a part, `between` apart, that
    is empty or holds one class only.
    """
    errors = []
    for part, count in counts(split).items():
        negatives = count["rows"] - count["positives"]
        if part != "between" and not (count["positives"] and negatives):
            errors.append(
                f"featurize: {part}: must hold examples of both classes "
                f"(got {count['positives']} with {split.columns.target} = 1, {negatives} with 0)"
            )
    repeated = _repeated_keys(split)
    if len(repeated):
        errors.append(
            f"featurize: {', '.join(split.columns.keys)}: must identify one example in one part "
            f"(got {len(repeated)} repeated keys, such as {repeated.head(NAMED).rows()})"
        )
    if errors:
        raise DataValidationError(
            "\n".join(errors) + "\nchange `featurize` in params.yaml, or the data"
        )


def _repeated_keys(split: Split) -> pl.DataFrame:
    keys = pl.concat([split.parts[part].select(split.columns.keys) for part in PARTS])
    return keys.filter(keys.is_duplicated()).unique().sort(split.columns.keys)


def run(
    ingest_folder: Path,
    validate_folder: Path,  # noqa: ARG001 - named so that validation comes first
    featurize_folder: Path,
    *,
    featurize: Recipe,
    seed: int,
) -> None:
    """Write one Parquet file for each part, `encoder.json` and `examples.json`."""
    version = date.fromisoformat(
        files.read_json(ingest_folder / "manifest.json")["dataset_version"]
    )
    rows = files.read_parquet(ingest_folder / "snapshot.parquet")
    split = featurize.split(rows, dataset_version=version, seed=seeds.derive(seed, "split"))
    check(split)
    encoder = Encoder.fit(split.parts["train"], split.columns)
    for part in PARTS:
        files.write_parquet(featurize_folder / f"{part}.parquet", split.parts[part])
    (featurize_folder / "encoder.json").write_text(encoder.to_json(), encoding="utf-8")
    record = {"columns": asdict(split.columns), "rule": split.rule, "parts": counts(split)}
    files.write_json(featurize_folder / "examples.json", record)


if __name__ == "__main__":
    command.main(run)
