"""Traces as training data: what simulators leave behind, made ready for a network."""
