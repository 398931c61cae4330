"""Executions: one, many, in other processes, on a device; and what every run checks, shows and waits for."""
