"""The recipes: one module for each shape of data, whose params section *is* the recipe.

A new one is one name more in `Recipe`, and a module with a section that has a literal `recipe` and

    split(rows, *, dataset_version, seed) -> Split   the examples to learn from
    features(rows, cutoff) -> DataFrame              everybody known before a day: keys, features
    entities, outcome                                the columns that tell them apart, and those
                                                     that rows to be scored may lack
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from tasks.recipes.table import Table
from tasks.recipes.transactions import Transactions

Recipe = Annotated[Transactions | Table, Field(discriminator="recipe")]
"""`featurize` in params.yaml; its `recipe` says which one."""
