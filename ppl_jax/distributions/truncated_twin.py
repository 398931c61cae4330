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
from jax.scipy.special import erf, log_ndtr, ndtri
from numpyro.distributions import Normal, constraints
from numpyro.distributions.truncated import TwoSidedTruncatedDistribution
from numpyro.distributions.util import validate_sample

from ppl_jax.distributions.normal import HALF_LOG_2PI

_FAR = 1e10  # standard deviations: stands for an infinite bound, whose derivative would be NaN
_TAIL = -5.0  # below this, quantiles are found by Newton's method in the logarithm of the tail
_NARROW = 2.0  # fall of the exponent over the interval below which its mass is found by quadrature
_NODES, _NODE_WEIGHTS = np.polynomial.legendre.leggauss(14)
_SERIES_FROM, _SERIES_TERMS = 12.0, 12  # the rest is below 1e-15
_SQRT2 = float(np.sqrt(2.0))
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
        loc, scale = self.base_dist.loc, self.base_dist.scale
        low, high = _bounded(self.low, loc, scale), _bounded(self.high, loc, scale)
        a, b = (low - loc) / scale, (high - loc) / scale
        # Everything is taken relative to the density at the point of the interval that is nearest to loc, c standard
        # deviations away: nothing cancels, however far out the interval is.
        beyond = (a >= 0.0) | (b <= 0.0)
        right = a >= 0.0
        c = jnp.where(right, a, jnp.where(b <= 0.0, -b, 0.0))
        width = (high - low) / scale
        above = jnp.where(right, value - low, high - value) / scale
        z = jnp.where(beyond, 0.0, (value - loc) / scale)
        exponent = jnp.where(beyond, -above * (c + 0.5 * above), -0.5 * z * z)
        narrow = width * (c + 0.5 * width) < _NARROW
        one_side = _log_tail_mass(c, width, beyond & ~narrow)
        both = ~beyond & ~narrow
        around = jnp.log(jnp.where(both, jnp.sqrt(0.5 * jnp.pi) * (erf(b / _SQRT2) - erf(a / _SQRT2)), 1.0))
        start = jnp.where(narrow, jnp.where(beyond, c, a), 0.0)
        close = _log_narrow_mass(start, jnp.where(narrow, width, 1.0))
        log_mass = jnp.where(narrow, close, jnp.where(beyond, one_side, around))
        return exponent - log_mass - jnp.log(scale)

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


def _bounded(bound: Any, loc: Any, scale: Any) -> Any:
    """The bound, or one so far from ``loc`` that there is nothing beyond it, in place of an infinite one."""
    bound = jnp.asarray(bound, jnp.result_type(float))
    finite = jnp.isfinite(bound)
    far = loc + jnp.sign(jnp.where(finite, 0.0, bound)) * _FAR * scale
    return jnp.where(finite, jnp.where(finite, bound, 0.0), jax.lax.stop_gradient(far))


def _log_narrow_mass(start: Any, width: Any) -> Any:
    """log of the integral of exp(-start t - t**2 / 2) over [0, width], where that changes little: by quadrature.

    For an interval around 0, where ``start`` < 0, exp(-start**2 / 2) is in it too.
    """
    t = 0.5 * width[..., None] * (1.0 + jnp.asarray(_NODES, width.dtype))
    inside = jnp.exp(-t * (start[..., None] + 0.5 * t)) * jnp.asarray(0.5 * _NODE_WEIGHTS, width.dtype)
    at_start = jnp.where(start < 0.0, -0.5 * start * start, 0.0)
    return jnp.log(width) + jnp.log(inside.sum(axis=-1)) + at_start


def _log_tail_mass(c: Any, width: Any, used: Any) -> Any:
    """log of the same integral where it covers much of the tail beyond c >= 0; anything where not ``used``."""
    c, width = jnp.where(used, c, 1.0), jnp.where(used, width, 2.0)
    fall = width * (c + 0.5 * width)
    return _log_mills(c) + jnp.log1p(-jnp.exp(_log_mills(c + width) - _log_mills(c) - fall))


def _log_mills(c: Any) -> Any:
    """log of Mills' ratio (the mass beyond c >= 0 over the density at c) of the standard normal."""
    far = c > _SERIES_FROM
    near = jnp.where(far, 0.0, c)
    w = 1.0 / jnp.where(far, c, _SERIES_FROM)
    square = w * w
    series: Any = 0.0
    for n in range(_SERIES_TERMS, 0, -1):  # 1 - 1/c**2 (1 - 3/c**2 (1 - 5/c**2 ( ...
        series = (2 * n - 1) * square * (1.0 - series)
    return jnp.where(far, jnp.log(w) + jnp.log1p(-series), log_ndtr(-near) + 0.5 * near * near + HALF_LOG_2PI)


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
