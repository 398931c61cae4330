"""numpyro's exponential, gamma and Weibull distributions, with 0 in their support, as on the host.

A waiting time recorded as 0.0 is a datum like any other; numpyro's own classes give it no density, or NaN. Their names
are numpyro's, so that what recognises those recognises these. Imported only where JAX is in use already.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax.scipy.special import gammaln, xlogy
from numpyro import distributions as npd
from numpyro.distributions import constraints
from numpyro.distributions.util import validate_sample


class Exponential(npd.Exponential):
    """With rate ``rate``."""

    support = constraints.nonnegative


class Gamma(npd.Gamma):
    """With shape ``concentration`` and inverse scale ``rate``."""

    support = constraints.nonnegative

    @validate_sample
    def log_prob(self, value: Any) -> jax.Array:
        """Log density; at 0 it is that of the exponential, 0 or infinite."""
        shape, rate = self.concentration, self.rate
        return xlogy(shape, rate) + _power(value, shape - 1.0) - rate * value - gammaln(shape)


class Weibull(npd.Weibull):
    """With scale ``scale`` and shape ``concentration``."""

    support = constraints.nonnegative

    @validate_sample
    def log_prob(self, value: Any) -> jax.Array:
        """Log density; at 0 it is that of the exponential, 0 or infinite."""
        shape, ratio = self.concentration, value / self.scale
        return jnp.log(shape) - jnp.log(self.scale) + _power(ratio, shape - 1.0) - ratio**shape


def _power(value: Any, exponent: Any) -> jax.Array:
    """log(value ** exponent), with 0 ** 0 = 1; its derivatives are finite wherever it is."""
    at_zero = jnp.where(exponent == 0.0, 0.0, -jnp.inf * jnp.sign(exponent))
    return jnp.where(value == 0.0, at_zero, exponent * jnp.log(jnp.where(value == 0.0, 1.0, value)))
