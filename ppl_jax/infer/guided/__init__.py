"""Executions that a network guides, many side by side."""
