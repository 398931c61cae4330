"""The device side of a distribution: draws and log densities under JAX, with the host's answer at every edge.

numpyro's twins assume that a value lies in the support, and keep probabilities away from 0 and 1. The host does
neither, and an importance weight must not depend on where it was computed: here a value outside the support has density
zero and an impossible event is impossible. Imported only where JAX is in use already.
"""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp

from ppl_jax.distributions.base import Distribution
from ppl_jax.distributions.choice_twins import log_mix, within
from ppl_jax.distributions.dirichlet import SUM_ERROR, Dirichlet
from ppl_jax.distributions.factor import Factor
from ppl_jax.distributions.from_numpyro import NumpyroDistribution
from ppl_jax.distributions.mixture import Mixture
from ppl_jax.distributions.multinomial import Multinomial
from ppl_jax.distributions.multivariate_normal import MultivariateNormal


def draw(distribution: Distribution, key: jax.Array) -> jax.Array:
    """One value of ``distribution.shape``: int where it is discrete, else float, of JAX's default width."""
    value = distribution.to_numpyro().sample(key)
    kind = jnp.result_type(int if distribution.discrete else float)
    return jnp.broadcast_to(value, distribution.shape).astype(kind)


def log_densities(distribution: Distribution, value: Any) -> jax.Array:
    """Log density of ``value``, elementwise over batch dimensions; -inf outside the support."""
    if isinstance(distribution, Factor):
        return jnp.asarray(distribution.log_factor)
    if isinstance(distribution, Mixture):
        terms = jnp.stack([log_densities(component, value) for component in distribution.components], axis=-1)
        return log_mix(jnp.asarray(distribution.probs), terms)
    value = jnp.asarray(value)
    inside = inside_support(distribution, value)
    if distribution.discrete and not isinstance(distribution, NumpyroDistribution):
        whole = inside[..., None] if isinstance(distribution, Multinomial) else inside
        value = jnp.where(whole, value, 0).astype(jnp.result_type(int))
    twin = distribution.to_numpyro()
    if not distribution.discrete and inside is not True:  # a branch that is not taken must have finite derivatives too
        value = within(twin.support, inside, value)
    density = twin.log_prob(value)
    # numpyro writes the logarithm of what is impossible as the lowest float.
    density = jnp.where(density < 0.5 * jnp.finfo(density.dtype).min, -jnp.inf, density)
    return jnp.where(inside, density, -jnp.inf)


def inside_support(distribution: Distribution, value: jax.Array) -> Any:
    """Whether each value lies in the support, over batch dimensions; plain True where there are no bounds."""
    if isinstance(distribution, NumpyroDistribution):
        return distribution.inside(value)
    if isinstance(distribution, MultivariateNormal):
        return True
    if isinstance(distribution, Mixture):
        return jnp.isfinite(log_densities(distribution, value))
    if isinstance(distribution, Dirichlet):
        return jnp.all(value >= 0.0, axis=-1) & (jnp.abs(value.sum(axis=-1) - 1.0) <= SUM_ERROR)
    if isinstance(distribution, Multinomial):
        whole = jnp.all((value >= 0) & (value == jnp.floor(value)), axis=-1)
        return whole & (value.sum(axis=-1) == distribution.total_count)
    low, high = distribution.support
    if _is_infinite(low) and _is_infinite(high):
        return True
    inside = (value >= low) & (value <= high) & jnp.isfinite(value)
    return inside & (value == jnp.floor(value)) if distribution.discrete else inside


def _is_infinite(bound: Any) -> bool:
    return isinstance(bound, (int, float)) and math.isinf(bound)
