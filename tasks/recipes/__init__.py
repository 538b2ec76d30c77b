"""The recipes: one module for each shape of data, whose params section *is* the recipe.

A new one is a module with a section that has a literal `recipe` and a method
`split(rows, *, dataset_version, seed) -> Split`, and one name more in `Recipe`.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from tasks.recipes.table import Table
from tasks.recipes.transactions import Transactions

Recipe = Annotated[Transactions | Table, Field(discriminator="recipe")]
"""`featurize` in params.yaml; its `recipe` says which one."""
