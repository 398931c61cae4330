"""numpyro's families of heavy tails and of half a line, with the host's answer at the edges and far out.

Squares and exponentials that overflow in float32 give NaN gradients in numpyro's own classes, and log-gammas of many
degrees of freedom lose their digits. The names are numpyro's. Imported only where JAX is in use already.
"""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
from jax.scipy.special import gammaln
from numpyro import distributions as npd
from numpyro.distributions import constraints
from numpyro.distributions.util import validate_sample

from ppl_jax.distributions.rising import log_rising_of_arrays

_LOG_PI = math.log(math.pi)


def _log1p_square(z: jax.Array) -> jax.Array:
    """log(1 + z**2), with finite derivatives where z**2 overflows."""
    z = jnp.asarray(z)
    far = jnp.finfo(z.dtype).max ** 0.25
    near = jnp.abs(z) < far
    inner, outer = jnp.where(near, z, 0.0), jnp.where(near, 1.0, z)
    return jnp.where(near, jnp.log1p(inner * inner), 2.0 * jnp.log(jnp.abs(outer)))


class Cauchy(npd.Cauchy):
    """With median ``loc`` and ``scale``."""

    @validate_sample
    def log_prob(self, value: Any) -> jax.Array:
        """Log density."""
        return -_LOG_PI - jnp.log(self.scale) - _log1p_square((value - self.loc) / self.scale)


class HalfCauchy(npd.HalfCauchy):
    """With ``scale``; 0 belongs to the support."""

    support = constraints.nonnegative

    @validate_sample
    def log_prob(self, value: Any) -> jax.Array:
        """Log density."""
        return math.log(2.0) - _LOG_PI - jnp.log(self.scale) - _log1p_square(value / self.scale)


class HalfNormal(npd.HalfNormal):
    """With ``scale``; 0 belongs to the support."""

    support = constraints.nonnegative

    @validate_sample
    def log_prob(self, value: Any) -> jax.Array:
        """Log density."""
        z = value / self.scale
        return -0.5 * z * z - 0.5 * math.log(0.5 * math.pi) - jnp.log(self.scale)


class Laplace(npd.Laplace):
    """With median ``loc`` and ``scale``."""

    @validate_sample
    def log_prob(self, value: Any) -> jax.Array:
        """Log density."""
        return -jnp.abs(value - self.loc) / self.scale - jnp.log(2.0) - jnp.log(self.scale)


class Logistic(npd.Logistic):
    """With mean ``loc`` and ``scale``."""

    @validate_sample
    def log_prob(self, value: Any) -> jax.Array:
        """Log density."""
        z = (value - self.loc) / self.scale
        return -jax.nn.softplus(z) - jax.nn.softplus(-z) - jnp.log(self.scale)


class Gumbel(npd.Gumbel):
    """With mode ``loc`` and ``scale``."""

    @validate_sample
    def log_prob(self, value: Any) -> jax.Array:
        """Log density; -inf where it is too small for a float, with derivatives that are finite."""
        z = jnp.asarray((value - self.loc) / self.scale)
        steepest = -jnp.log(jnp.finfo(z.dtype).max) + 2.0
        far = ~(z > steepest)
        safe = jnp.where(far, 0.0, z)
        return jnp.where(far, -jnp.inf, -safe - jnp.exp(-safe) - jnp.log(self.scale))


class StudentT(npd.StudentT):
    """With ``df`` degrees of freedom, ``loc`` and ``scale``."""

    @validate_sample
    def log_prob(self, value: Any) -> jax.Array:
        """Log density."""
        df = jnp.asarray(self.df, jnp.result_type(float))
        norm = log_rising_of_arrays(0.5 * df, 0.5, jnp, gammaln) - 0.5 * (_LOG_PI + jnp.log(df))
        z = (value - self.loc) / self.scale / jnp.sqrt(df)
        return norm - jnp.log(self.scale) - 0.5 * (df + 1.0) * _log1p_square(z)


class InverseGamma(npd.InverseGamma):
    """With shape ``concentration`` and scale ``rate``."""

    @validate_sample
    def log_prob(self, value: Any, intermediates: Any = None) -> jax.Array:
        """Log density; -inf at 0."""
        shape, rate = self.concentration, self.rate
        safe = jnp.where(value > 0.0, value, 1.0)
        inside = shape * jnp.log(rate) - gammaln(shape) - (shape + 1.0) * jnp.log(safe) - rate / safe
        return jnp.where(value > 0.0, inside, -jnp.inf)


class Pareto(npd.Pareto):
    """From ``scale`` on, with tail exponent ``alpha``; the bound itself belongs to the support."""

    @constraints.dependent_property(is_discrete=False, event_dim=0)
    def support(self) -> Any:
        """From ``scale`` on."""
        return constraints.greater_than_eq(self.scale)

    @validate_sample
    def log_prob(self, value: Any, intermediates: Any = None) -> jax.Array:
        """Log density."""
        log_value = jnp.log(jnp.where(value < self.scale, self.scale, value))
        return jnp.log(self.alpha) - self.alpha * (log_value - jnp.log(self.scale)) - log_value
