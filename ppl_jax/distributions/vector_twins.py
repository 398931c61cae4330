"""numpyro's Dirichlet and multinomial, with the host's answer at the edges. Imported only where JAX is in use."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax.scipy.special import gammaln
from numpyro import distributions as npd
from numpyro.distributions.util import validate_sample


class Dirichlet(npd.Dirichlet):
    """With ``concentration``."""

    @validate_sample
    def log_prob(self, value: Any) -> jax.Array:
        """Log density of each vector; an element of 0 adds 0 or makes it infinite."""
        a = self.concentration
        some = value > 0.0
        at_zero = jnp.where(a == 1.0, 0.0, jnp.where(a < 1.0, jnp.inf, -jnp.inf))
        powers = jnp.where(some, (a - 1.0) * jnp.log(jnp.where(some, value, 1.0)), at_zero)
        density = gammaln(a.sum(axis=-1)) - gammaln(a).sum(axis=-1) + powers.sum(axis=-1)
        return jnp.where(jnp.isnan(density), -jnp.inf, density)


class MultinomialProbs(npd.MultinomialProbs):
    """With ``probs`` and ``total_count``, which may be traced."""

    pytree_data_fields = ("probs", "total_count")
    pytree_aux_fields = ("total_count_max",)

    @validate_sample
    def log_prob(self, value: Any) -> jax.Array:
        """Log probability of each vector; what is impossible and did not happen adds nothing."""
        k = jnp.asarray(value, jnp.result_type(float))
        none = k == 0.0
        terms = jnp.where(none, 0.0, k * jnp.log(jnp.where(none, 1.0, self.probs))) - gammaln(k + 1.0)
        return gammaln(jnp.asarray(self.total_count, k.dtype) + 1.0) + terms.sum(axis=-1)

    def sample(self, key: Any, sample_shape: tuple[int, ...] = ()) -> jax.Array:
        """Category after category: of those that are left, each is binomial."""
        shape = (*sample_shape, *self.batch_shape)
        probs = jnp.broadcast_to(self.probs, (*shape, *self.event_shape))
        rest = jnp.cumsum(probs[..., ::-1], axis=-1)[..., ::-1]
        share = jnp.where(rest > 0.0, probs / jnp.where(rest > 0.0, rest, 1.0), 0.0)
        later = jnp.concatenate([rest[..., 1:] > 0.0, jnp.zeros((*shape, 1), bool)], axis=-1)
        share = jnp.where((probs > 0.0) & ~later, 1.0, jnp.clip(share, 0.0, 1.0))

        def step(left: Any, inputs: Any) -> Any:
            own, p = inputs
            count = npd.BinomialProbs(p, left).sample(own).astype(left.dtype)
            return left - count, count

        total = jnp.broadcast_to(jnp.asarray(self.total_count), shape).astype(jnp.result_type(int))
        keys = jax.random.split(key, self.event_shape[0])
        _, counts = jax.lax.scan(step, total, (keys, jnp.moveaxis(share, -1, 0)))
        return jnp.moveaxis(counts, 0, -1)
