"""The truncated normal as numpyro sees it, with digits to spare in both tails.

numpyro's own class subtracts cumulative probabilities: in float32 its density is infinite where the lower bound is six
standard deviations above the mean, and its draws leave the interval at thirteen. Here everything is computed from the
logarithm of the tail that is the smaller one. Imported only where JAX is in use already.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import log_ndtr, ndtri
from numpyro.distributions import Normal, constraints
from numpyro.distributions.truncated import TwoSidedTruncatedDistribution
from numpyro.distributions.util import validate_sample

from ppl_jax.distributions.normal import HALF_LOG_2PI

_FAR = 1e10  # standard deviations: stands for an infinite bound, whose derivative would be NaN
_TAIL = -5.0  # below this, quantiles are found by Newton's method in the logarithm of the tail
_NEWTON_STEPS = 4  # from the first term of the tail's series, convergence is quadratic


class TruncatedNormalTwin(TwoSidedTruncatedDistribution):
    """numpyro's truncated normal, on one side or both; bounds may be infinite."""

    def __init__(self, loc: Any, scale: Any, low: Any, high: Any):
        super().__init__(Normal(loc, scale), low, high)
        if _is(low, -np.inf):
            self._support = constraints.real if _is(high, np.inf) else constraints.less_than_eq(high)
        elif _is(high, np.inf):
            self._support = constraints.greater_than_eq(low)

    @validate_sample
    def log_prob(self, value: Any) -> jax.Array:
        """Log density; outside the bounds, numpyro's validation has the word."""
        z = (value - self.base_dist.loc) / self.base_dist.scale
        a, b, _ = self._left_tail()
        log_mass = log_ndtr(b) + _log1mexp(log_ndtr(b) - log_ndtr(a))
        return -0.5 * z * z - HALF_LOG_2PI - jnp.log(self.base_dist.scale) - log_mass

    def sample(self, key: jax.Array, sample_shape: tuple[int, ...] = ()) -> jax.Array:
        """Draws by inversion."""
        u = jax.random.uniform(key, sample_shape + self.batch_shape, minval=jnp.finfo(jnp.result_type(float)).tiny)
        return self.icdf(u)

    def icdf(self, q: Any) -> jax.Array:
        """The quantile function, always within the bounds."""
        a, b, flipped = self._left_tail()
        q = jnp.where(flipped, 1.0 - q, q)
        log_p = jnp.logaddexp(jnp.log1p(-q) + log_ndtr(a), jnp.log(q) + log_ndtr(b))
        z = _log_ndtr_inverse(jnp.minimum(log_p, -jnp.finfo(log_p.dtype).epsneg))
        value = self.base_dist.loc + self.base_dist.scale * jnp.where(flipped, -z, z)
        return jnp.clip(value, self.low, self.high)

    def _left_tail(self) -> tuple[Any, Any, Any]:
        """Bounds in standard deviations, mirrored where most of the interval lies right of the mean; if they were."""
        a, b = self._standardised(self.low, -_FAR), self._standardised(self.high, _FAR)
        flipped = a + b > 0.0
        return jnp.where(flipped, -b, a), jnp.where(flipped, -a, b), flipped

    def _standardised(self, bound: Any, infinite: float) -> Any:
        finite = jnp.isfinite(bound)
        return jnp.where(finite, (jnp.where(finite, bound, 0.0) - self.base_dist.loc) / self.base_dist.scale, infinite)


def _is(bound: Any, infinity: float) -> bool:
    return isinstance(bound, float) and bound == infinity


def _log1mexp(x: Any) -> Any:
    """log(1 - exp(-x)) of x > 0: Mächler, "Accurately computing log(1 - exp(-|a|))" (2012)."""
    small = x < 0.6931472
    return jnp.where(small, jnp.log(-jnp.expm1(-jnp.where(small, x, 1.0))), jnp.log1p(-jnp.exp(-x)))


def _log_ndtr_inverse(log_p: Any) -> Any:
    """z for which log_ndtr(z) = log_p < 0."""
    far = log_p < log_ndtr(jnp.asarray(_TAIL, log_p.dtype))
    near = ndtri(jnp.exp(jnp.where(far, -1.0, log_p)))
    target = jnp.where(far, log_p, -20.0)
    z = -jnp.sqrt(-2.0 * (target + HALF_LOG_2PI + 0.5 * jnp.log(-2.0 * target)))
    for _ in range(_NEWTON_STEPS):
        log_tail = log_ndtr(z)
        z = z - (log_tail - target) * jnp.exp(log_tail + 0.5 * z * z + HALF_LOG_2PI)
    return jnp.where(far, z, near)
