"""Posteriors: weighted collections of traces or of values computed from them. The outcome of every engine."""

from ppl_jax.empirical.empirical import Empirical
from ppl_jax.empirical.files import load_posterior

__all__ = ["Empirical", "load_posterior"]
