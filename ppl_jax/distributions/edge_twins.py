"""numpyro's continuous families with the host's answer at the ends of their supports, and finite derivatives there.

A waiting time recorded as 0.0 is a datum like any other; numpyro's own classes give it no density, or NaN. Differences
of large log-gammas, and cosines near 1, lose their digits in float32. The names are numpyro's, so that what recognises
those recognises these. Imported only where JAX is in use already.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax.scipy.special import gammaln, i0e
from numpyro import distributions as npd
from numpyro.distributions import constraints
from numpyro.distributions.util import validate_sample

from ppl_jax.distributions.deviance import deviance_by
from ppl_jax.distributions.normal import HALF_LOG_2PI
from ppl_jax.distributions.rising import FROM, log_rising_of_arrays, stirling

_LARGEST_EXPONENT = 85.0  # exp of it is a float32


class Exponential(npd.Exponential):
    """With rate ``rate``."""

    support = constraints.nonnegative


class Gamma(npd.Gamma):
    """With shape ``concentration`` and inverse scale ``rate``."""

    support = constraints.nonnegative

    @validate_sample
    def log_prob(self, value: Any) -> jax.Array:
        """Log density; at 0 it is that of the exponential, 0 or infinite."""
        shape, rate = _float(self.concentration), _float(self.rate)
        few = shape * jnp.log(rate) + _power(value, shape - 1.0) - rate * value - gammaln(jnp.minimum(shape, FROM))
        many = (shape >= FROM) & (value > 0.0)  # as the deviance of the mean from what it was found to be
        a, x = jnp.where(many, shape, FROM), jnp.where(many, value, 1.0)
        y = jnp.where(many, rate, FROM) * x
        series = 0.5 * jnp.log(a) - HALF_LOG_2PI - stirling(a) - deviance_by(a - y, a, y, jnp) - jnp.log(x)
        return jnp.where(many, series, few)


class Weibull(npd.Weibull):
    """With scale ``scale`` and shape ``concentration``."""

    support = constraints.nonnegative

    @validate_sample
    def log_prob(self, value: Any) -> jax.Array:
        """Log density; at 0 it is that of the exponential, 0 or infinite."""
        shape, ratio = _float(self.concentration), value / self.scale
        exponent = shape * jnp.log(jnp.where(ratio > 0.0, ratio, 1.0))
        far = exponent > (_LARGEST_EXPONENT if exponent.dtype == jnp.float32 else 700.0)
        # At 0 the power's derivatives are those of a straight line (shape 1); else they do not exist or are 0.
        power = jnp.where(ratio > 0.0, jnp.exp(jnp.where(far, 0.0, exponent)), jnp.where(shape == 1.0, ratio, 0.0))
        inside = jnp.log(shape) - jnp.log(self.scale) + _power(ratio, shape - 1.0) - power
        return jnp.where(far, -jnp.inf, inside)


class Beta(npd.Beta):
    """With ``concentration1`` and ``concentration0``; 0 and 1 belong to the support."""

    support = constraints.unit_interval

    @validate_sample
    def log_prob(self, value: Any) -> jax.Array:
        """Log density; at 0 and 1 it is 0, finite or infinite."""
        a, b, value = _float(self.concentration1), _float(self.concentration0), _float(value)
        less, more = jnp.minimum(a, b), jnp.maximum(a, b)
        norm = log_rising_of_arrays(more, less, jnp, gammaln) - gammaln(less)
        rest = jnp.where(value < 1.0, jnp.log1p(-jnp.where(value < 1.0, value, 0.0)), 0.0)
        at_one = jnp.where(b == 1.0, 0.0, -jnp.inf * jnp.sign(b - 1.0))
        return norm + _power(value, a - 1.0) + jnp.where(value < 1.0, (b - 1.0) * rest, at_one)


class LogNormal(npd.LogNormal):
    """exp of a normal with mean ``loc`` and standard deviation ``scale``."""

    @validate_sample
    def log_prob(self, value: Any, intermediates: Any = None) -> jax.Array:
        """Log density; 0 at 0."""
        log_value = jnp.log(jnp.where(value > 0.0, value, 1.0))
        z = (log_value - self.loc) / self.scale
        return jnp.where(value > 0.0, -0.5 * z * z - HALF_LOG_2PI - jnp.log(self.scale) - log_value, -jnp.inf)


class VonMises(npd.VonMises):
    """Around ``loc`` with ``concentration``."""

    @validate_sample
    def log_prob(self, value: Any) -> jax.Array:
        """Log density."""
        concentration = _float(self.concentration)
        sine = jnp.sin(0.5 * (value - self.loc))
        return -2.0 * concentration * sine * sine - 2.0 * HALF_LOG_2PI - _log_i0e(concentration)


def _log_i0e(x: jax.Array) -> jax.Array:
    """log(exp(-x) I0(x)) of x > 0; from 50 on a series, whose derivative loses no digits."""
    small, w = jnp.minimum(x, 50.0), 1.0 / jnp.maximum(x, 50.0)
    series = w * (1.0 / 8.0 + w * (1.0 / 16.0 + w * (25.0 / 384.0 + w * (13.0 / 128.0 + w * (1073.0 / 5120.0)))))
    return jnp.where(x < 50.0, jnp.log(i0e(small)), series - HALF_LOG_2PI - 0.5 * jnp.log(jnp.maximum(x, 50.0)))


def _power(value: Any, exponent: Any) -> jax.Array:
    """log(value ** exponent), with 0 ** 0 = 1; its derivatives are finite wherever it is."""
    at_zero = jnp.where(exponent == 0.0, 0.0, -jnp.inf * jnp.sign(exponent))
    return jnp.where(value == 0.0, at_zero, exponent * jnp.log(jnp.where(value == 0.0, 1.0, value)))


def _float(value: Any) -> jax.Array:
    return jnp.asarray(value, jnp.result_type(float))
