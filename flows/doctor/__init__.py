"""Find the stages whose outputs depend on what must not matter, before anything is registered."""
