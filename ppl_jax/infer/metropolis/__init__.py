"""Markov chains of single-site steps."""
