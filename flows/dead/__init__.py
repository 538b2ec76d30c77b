"""What is left of flow runs that died: who is dead, what it left open, whether it runs again."""
