"""numpyro's choices and counts (Bernoulli, binomial, categorical, Poisson) and mixtures, with finite derivatives.

numpyro's own classes keep probabilities away from 0 and 1, and give NaN where a rate or a probability is 0 or 1 and so
was the outcome: the branch that is not taken is infinite, and 0 times infinity is no number. Here no branch sees a
number that it cannot take. Log probabilities of large counts keep their digits in float32 (see ``deviance``). The names
are numpyro's. Imported only where JAX is in use already.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from numpyro import distributions as npd
from numpyro.distributions import constraints
from numpyro.distributions.util import validate_sample

from ppl_jax.distributions.deviance import log_count_masses, log_poisson_masses


def _float(value: Any) -> jax.Array:
    return jnp.asarray(value, jnp.result_type(float))


def _log(x: jax.Array) -> jax.Array:
    """log(x), -inf at 0 with derivative 0."""
    return jnp.where(x > 0.0, jnp.log(jnp.where(x > 0.0, x, 1.0)), -jnp.inf)


def _log1m(x: jax.Array) -> jax.Array:
    """log(1 - x), -inf at 1 with derivative 0."""
    return jnp.where(x < 1.0, jnp.log1p(-jnp.where(x < 1.0, x, 0.0)), -jnp.inf)


class BernoulliProbs(npd.BernoulliProbs):
    """With ``probs``."""

    @validate_sample
    def log_prob(self, value: Any) -> jax.Array:
        """Log probability."""
        probs = _float(self.probs)
        return jnp.where(jnp.asarray(value) == 1, _log(probs), _log1m(probs))


class BernoulliLogits(npd.BernoulliLogits):
    """With ``logits``."""

    @validate_sample
    def log_prob(self, value: Any) -> jax.Array:
        """Log probability."""
        logits = _float(self.logits)
        return jax.nn.log_sigmoid(jnp.where(jnp.asarray(value) == 1, logits, -logits))


class BinomialProbs(npd.BinomialProbs):
    """With ``probs`` and ``total_count``."""

    @validate_sample
    def log_prob(self, value: Any) -> jax.Array:
        """Log probability."""
        p, n = _float(self.probs), _float(self.total_count)
        return log_count_masses(_float(value), n, p, 1.0 - p, _log(p), _log1m(p), jnp)


class BinomialLogits(npd.BinomialLogits):
    """With ``logits`` and ``total_count``."""

    @validate_sample
    def log_prob(self, value: Any) -> jax.Array:
        """Log probability."""
        logits, n = _float(self.logits), _float(self.total_count)
        p, q = jax.nn.sigmoid(logits), jax.nn.sigmoid(-logits)
        odds = jax.nn.log_sigmoid(logits), jax.nn.log_sigmoid(-logits)
        return log_count_masses(_float(value), n, p, q, *odds, jnp)


class CategoricalProbs(npd.CategoricalProbs):
    """With ``probs``, which sum to 1."""

    @validate_sample
    def log_prob(self, value: Any) -> jax.Array:
        """Log probability."""
        return _log(_chosen(_float(self.probs), value))


class CategoricalLogits(npd.CategoricalLogits):
    """With ``logits``; -inf stands for an impossible category."""

    arg_constraints = {"logits": constraints.independent(constraints.less_than(jnp.inf), 1)}  # noqa: RUF012

    @validate_sample
    def log_prob(self, value: Any) -> jax.Array:
        """Log probability."""
        return _chosen(jax.nn.log_softmax(_float(self.logits), axis=-1), value)


def _chosen(rows: jax.Array, value: Any) -> jax.Array:
    """The elements of rows (..., K) at the indices ``value``, broadcast against each other."""
    value = jnp.asarray(value)
    shape = jax.lax.broadcast_shapes(value.shape, rows.shape[:-1])
    table = jnp.broadcast_to(rows, (*shape, rows.shape[-1]))
    index = jnp.broadcast_to(value, shape)[..., None].astype(jnp.result_type(int))
    return jnp.take_along_axis(table, index, axis=-1)[..., 0]


class Poisson(npd.Poisson):
    """With ``rate``, which may be 0."""

    arg_constraints = {"rate": constraints.nonnegative}  # noqa: RUF012 (numpyro's attribute)

    @validate_sample
    def log_prob(self, value: Any) -> jax.Array:
        """Log probability."""
        return log_poisson_masses(_float(value), _float(self.rate), jnp)


class MixtureGeneral(npd.MixtureGeneral):
    """Of scalar components, each with a support of its own."""

    @validate_sample
    def log_prob(self, value: Any, intermediates: Any = None) -> jax.Array:
        """Log density."""
        terms = [inside_only(component, value) for component in self.component_distributions]
        return log_mix(jnp.asarray(self.mixing_distribution.probs), jnp.stack(terms, axis=-1))


def inside_only(twin: Any, value: Any) -> jax.Array:
    """A twin's log density, -inf outside its support with derivatives 0: it never sees a value that is outside."""
    inside = twin.support(value)
    density = twin.log_prob(within(twin.support, inside, value))
    return jnp.where(inside, density, -jnp.inf)


def within(constraint: Any, inside: Any, value: Any) -> jax.Array:
    """``value`` where ``inside`` (over batch dimensions) is true; elsewhere a number that meets the constraint."""
    value = jnp.asarray(value)
    whole = jnp.reshape(inside, jnp.shape(inside) + (1,) * constraint.event_dim)
    return jnp.where(whole, value, jax.lax.stop_gradient(constraint.feasible_like(value)).astype(value.dtype))


def log_mix(probs: jax.Array, terms: jax.Array) -> jax.Array:
    """log sum_k probs_k exp(terms_k) over the last axis, with its derivative also in a weight that is 0.

    A component of weight 0 adds nothing, even where its density is infinite.
    """
    probs = jnp.broadcast_to(probs, terms.shape)
    taken = (probs > 0.0) & (terms > -jnp.inf)
    parts = jnp.where(taken, terms + jnp.log(jnp.where(taken, probs, 1.0)), -jnp.inf)
    highest = jax.lax.stop_gradient(parts.max(axis=-1, keepdims=True))
    finite = jnp.isfinite(highest)
    highest = jnp.where(finite, highest, 0.0)
    some = taken & finite
    total = jnp.where(some, jnp.exp(jnp.where(some, parts - highest, 0.0)), 0.0)
    # Nothing in value; what a weight of 0 would begin to add. Bounded, so that 0 times it is 0.
    absent = (probs <= 0.0) & (terms > -jnp.inf) & finite
    most = 0.5 * jnp.log(jnp.finfo(terms.dtype).max)
    ratio = jnp.exp(jnp.minimum(jnp.where(absent, jax.lax.stop_gradient(terms) - highest, 0.0), most))
    total = (total + jnp.where(absent, probs * ratio, 0.0)).sum(axis=-1)
    finite, highest = finite[..., 0], highest[..., 0]
    mixed = jnp.log(jnp.where(finite, total, 1.0)) + highest
    return jnp.where(finite, mixed, parts.max(axis=-1))
