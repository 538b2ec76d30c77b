"""What Verbatim costs, measured side by side; figures, never tests."""
