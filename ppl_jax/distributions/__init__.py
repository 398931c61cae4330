"""Probability distributions with a fast host side and a numpyro twin; one file per family."""

from ppl_jax.distributions.base import Distribution
from ppl_jax.distributions.factor import Factor
from ppl_jax.distributions.normal import Normal

__all__ = ["Distribution", "Factor", "Normal"]
