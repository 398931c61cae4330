"""numpyro's families of counts, with the host's densities: exact at the edges, all digits of large counts.

Log-gammas of a concentration of 1e4 leave errors of 1e-2 in float32, and numpyro's own classes give NaN at a mean or a
probability of 0. The names are numpyro's, which has no hypergeometric. Imported only where JAX is in use already.
"""

from __future__ import annotations

from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jax.scipy.special import gammaln
from numpyro import distributions as npd
from numpyro.distributions import constraints
from numpyro.distributions.util import promote_shapes, validate_sample

from ppl_jax.distributions import beta_binomial, hypergeometric, negative_binomial


def _float(value: Any) -> jax.Array:
    return jnp.asarray(value, jnp.result_type(float))


def _times_log(k: Any, x: Any) -> jax.Array:
    """k * log(x), 0 where k is 0; its derivatives are then 0 too."""
    none = k == 0.0
    return jnp.where(none, 0.0, k * jnp.log(jnp.where(none, 1.0, x)))


def _negative_binomial(k: Any, mean: Any, concentration: Any) -> jax.Array:
    return negative_binomial.log_masses(_float(k), mean, concentration, jnp, gammaln, _times_log)


class NegativeBinomialProbs(npd.NegativeBinomialProbs):
    """With ``total_count`` and ``probs``."""

    @validate_sample
    def log_prob(self, value: Any) -> jax.Array:
        """Log probability."""
        return _negative_binomial(value, self.total_count * (self.probs / (1.0 - self.probs)), self.total_count)


class NegativeBinomialLogits(npd.NegativeBinomialLogits):
    """With ``total_count`` and ``logits``."""

    def __init__(self, total_count: Any, logits: Any, *, validate_args: Any = None):
        self.total_count, self.logits = promote_shapes(_float(total_count), _float(logits))
        rate = jnp.exp(-self.logits)  # for the draws; it may underflow
        rate = jnp.maximum(rate, jnp.finfo(rate.dtype).tiny)
        npd.GammaPoisson.__init__(self, self.total_count, rate, validate_args=validate_args)

    @validate_sample
    def log_prob(self, value: Any) -> jax.Array:
        """Log probability."""
        logits, r = _float(self.logits), _float(self.total_count)
        odds = jax.nn.log_sigmoid(logits), jax.nn.log_sigmoid(-logits)
        return negative_binomial.log_masses_of_odds(_float(value), r, *odds, jnp, gammaln)


class NegativeBinomial2(npd.NegativeBinomial2):
    """With ``mean`` and ``concentration``."""

    pytree_data_fields = ("given_mean",)

    def __init__(self, mean: Any, concentration: Any, *, validate_args: Any = None):
        (self.given_mean,) = promote_shapes(_float(mean))
        super().__init__(mean, concentration, validate_args=validate_args)

    @validate_sample
    def log_prob(self, value: Any) -> jax.Array:
        """Log probability."""
        return _negative_binomial(value, self.given_mean, self.concentration)


class BetaBinomial(npd.BetaBinomial):
    """With ``concentration1``, ``concentration0`` and ``total_count``."""

    def __init__(self, concentration1: Any, concentration0: Any, total_count: Any, *, validate_args: Any = None):
        whole = jnp.asarray(total_count).astype(jnp.result_type(int))  # numpyro's sampler wants integers
        super().__init__(concentration1, concentration0, whole, validate_args=validate_args)

    @validate_sample
    def log_prob(self, value: Any) -> jax.Array:
        """Log probability."""
        a, b, n = (_float(part) for part in (self.concentration1, self.concentration0, self.total_count))
        return beta_binomial.log_masses(_float(value), a, b, n, jnp, gammaln)


class GeometricProbs(npd.GeometricProbs):
    """With ``probs``."""

    @validate_sample
    def log_prob(self, value: Any) -> jax.Array:
        """Log probability."""
        k = _float(value)
        none = k == 0.0
        failures = k * jnp.log1p(-jnp.where(none, 0.0, self.probs))
        return jnp.log(self.probs) + jnp.where(none, 0.0, failures)


class GeometricLogits(npd.GeometricLogits):
    """With ``logits``."""

    @validate_sample
    def log_prob(self, value: Any) -> jax.Array:
        """Log probability."""
        logits = _float(self.logits)
        return jax.nn.log_sigmoid(logits) + _float(value) * jax.nn.log_sigmoid(-logits)


class ZeroInflatedPoisson(npd.ZeroInflatedPoisson):
    """With ``gate`` and ``rate``, which may be 0."""

    arg_constraints: ClassVar[dict[str, Any]] = {"gate": constraints.unit_interval, "rate": constraints.nonnegative}

    @validate_sample
    def log_prob(self, value: Any) -> jax.Array:
        """Log probability."""
        k, gate, rate = _float(value), _float(self.gate), _float(self.rate)
        none = k == 0.0
        log_some = jnp.log1p(-jnp.where(gate < 1.0, gate, 0.0))
        some = jnp.where(gate < 1.0, log_some, -jnp.inf) + _times_log(k, rate) - rate - gammaln(k + 1.0)
        mass = gate + (1.0 - gate) * jnp.exp(-rate)
        zero = jnp.where(mass > 0.0, jnp.log(jnp.where(mass > 0.0, mass, 1.0)), -rate)
        return jnp.where(none, zero, some)


class Hypergeometric(npd.Distribution):
    """With ``population``, ``successes`` among it, and ``draws``; numpyro has none."""

    arg_constraints: ClassVar[dict[str, Any]] = {
        "population": constraints.nonnegative_integer,
        "successes": constraints.nonnegative_integer,
        "draws": constraints.nonnegative_integer,
    }
    pytree_data_fields = ("population", "successes", "draws")

    def __init__(self, population: Any, successes: Any, draws: Any, *, validate_args: Any = None):
        shape = jax.lax.broadcast_shapes(jnp.shape(population), jnp.shape(successes), jnp.shape(draws))
        self.population, self.successes, self.draws = promote_shapes(
            _float(population), _float(successes), _float(draws), shape=shape
        )
        super().__init__(batch_shape=shape, validate_args=validate_args)

    @constraints.dependent_property(is_discrete=True, event_dim=0)
    def support(self) -> Any:
        """From the draws that must be marked to those that can be."""
        low = jnp.maximum(0.0, self.draws - (self.population - self.successes))
        return constraints.integer_interval(low, jnp.minimum(self.successes, self.draws))

    @validate_sample
    def log_prob(self, value: Any) -> jax.Array:
        """Log probability."""
        return hypergeometric.log_masses(_float(value), self.population, self.successes, self.draws, jnp)

    def sample(self, key: Any, sample_shape: tuple[int, ...] = ()) -> jax.Array:
        """Devroye's rejection for log-concave laws, as on the host; all elements together."""
        shape = (*sample_shape, *self.batch_shape)
        population, successes, draws = (
            jnp.broadcast_to(part, shape) for part in (self.population, self.successes, self.draws)
        )
        low = jnp.maximum(0.0, draws - (population - successes))
        high = jnp.minimum(successes, draws)
        mode = jnp.clip(jnp.floor((draws + 1.0) * (successes + 1.0) / (population + 2.0)), low, high)
        at_mode = hypergeometric.log_masses(mode, population, successes, draws, jnp)
        mass = jnp.exp(at_mode)
        w = 1.0 + 0.5 * mass
        smallest = jnp.finfo(mass.dtype).tiny

        def again(state: Any) -> Any:
            key, value, done = state
            key, own = jax.random.split(key)
            u, v, z, sign = jax.random.uniform(own, (4, *shape), mass.dtype, minval=smallest)
            core = u * (1.0 + w) <= w
            y = jnp.where(core, v * w, w - jnp.log(v)) / mass
            step = jnp.floor(y + 0.5)
            k = jnp.where(sign < 0.5, mode - step, mode + step)
            inside = (k >= low) & (k <= high)
            ratio = hypergeometric.log_masses(jnp.where(inside, k, mode), population, successes, draws, jnp) - at_mode
            taken = inside & (jnp.log(z) + jnp.where(core, 0.0, jnp.log(v)) <= ratio) & ~done
            return key, jnp.where(taken, k, value), done | taken

        state = (key, mode, low == high)
        _, value, _ = jax.lax.while_loop(lambda state: ~jnp.all(state[2]), again, state)
        return value.astype(jnp.result_type(int))
