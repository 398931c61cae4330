"""Single-site proposals of Metropolis-Hastings: the prior again, or a random walk made for the distribution.

A kernel's ``move(distribution, value, scale, rng)`` gives a new value and the log ratio of the proposal densities,
log q(value | new) - log q(new | value). ``scale`` is relative to the natural width of the distribution (its standard
deviation, the length of its interval, 1 in the logarithm of a positive variable), and is adapted during burn-in.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from ppl_jax.distributions import (
    Bernoulli,
    BetaBinomial,
    Binomial,
    Categorical,
    Cauchy,
    Delta,
    Dirichlet,
    Distribution,
    Geometric,
    Hypergeometric,
    Mixture,
    Multinomial,
    MultivariateNormal,
    NegativeBinomial,
    NegativeBinomial2,
    Normal,
    Poisson,
    StudentT,
    Uniform,
    VonMises,
    ZeroInflatedPoisson,
)
from ppl_jax.distributions.base import SMALLEST, UniformSource
from ppl_jax.distributions.from_numpyro import NumpyroDistribution
from ppl_jax.distributions.normal import standard_normal_quantile
from ppl_jax.language.site import total_log_prob

Move = tuple[Any, float]  # new value, log q(value | new) - log q(new | value)

FIRST_SCALE = 0.5
# Optimal acceptance rates: Roberts & Rosenthal, Statistical Science 16 (2001).
TARGET_SCALAR, TARGET_VECTOR = 0.44, 0.234


class Kernel(Protocol):
    """What Metropolis-Hastings asks of a kernel."""

    @property
    def adapts(self) -> bool:
        """Whether ``scale`` is to be adapted during burn-in."""

    def move(self, distribution: Distribution, value: Any, scale: float, rng: UniformSource) -> Move:
        """A new value for a site of this distribution, and the log ratio of the proposal densities."""


def draw_from_prior(distribution: Distribution, value: Any, rng: UniformSource) -> Move:
    """The independence proposal."""
    new = distribution.sample(rng)
    return new, total_log_prob(distribution, value) - total_log_prob(distribution, new)


@dataclass(frozen=True)
class Lightweight:
    """Proposes from the prior (Wingate, Stuhlmueller & Goodman, AISTATS 2011, with the published erratum)."""

    adapts: bool = field(default=False, init=False)

    def move(self, distribution: Distribution, value: Any, scale: float, rng: UniformSource) -> Move:
        """See :class:`Kernel`."""
        return draw_from_prior(distribution, value, rng)


@dataclass(frozen=True)
class RandomWalk:
    """Proposes near the current value, now and then from the prior so that separate modes are found.

    Unbounded values take a normal step, positive ones a normal step of their logarithm, values in an interval a
    reflected one, angles a wrapped one, counts a symmetric integer step; a Bernoulli flips. Shares that sum to 1 take a
    normal step of their logarithms, and are divided by their new sum; multinomial counts move from one category to
    another. Other discrete values are drawn from the prior. Values of numpyro's further distributions take a normal
    step where numpyro's transform has made them unbounded.

    Args:
      prior_moves: probability of a proposal from the prior, in [0, 1].
    """

    prior_moves: float = 0.1
    adapts: bool = field(default=True, init=False)

    def __post_init__(self) -> None:
        if not 0.0 <= self.prior_moves <= 1.0:
            raise ValueError(f"RandomWalk: prior_moves must be a probability, got {self.prior_moves!r}.")

    def move(self, distribution: Distribution, value: Any, scale: float, rng: UniformSource) -> Move:
        """See :class:`Kernel`."""
        if rng.random() < self.prior_moves:
            return draw_from_prior(distribution, value, rng)
        return _STEPS.get(type(distribution), _step_by_support)(distribution, value, scale, rng)


def named_kernel(kernel: Any) -> Kernel:
    """The kernel of that name, or the kernel itself."""
    known: dict[Any, Kernel] = {"random_walk": RandomWalk(), "lightweight": Lightweight()}
    if isinstance(kernel, str):
        if kernel not in known:
            raise ValueError(f"kernel must be one of {sorted(known)} or a kernel such as RandomWalk(), got {kernel!r}.")
        return known[kernel]
    if isinstance(kernel, type) or not hasattr(kernel, "move"):
        raise ValueError(f"kernel must be one of {sorted(known)} or a kernel such as RandomWalk(), got {kernel!r}.")
    return kernel


def _normals(value: Any, rng: UniformSource) -> Any:
    """A standard normal for each element of ``value``."""
    shape = np.shape(value)
    if shape == ():
        return standard_normal_quantile(rng.random())
    return Normal(np.zeros(shape), 1.0).sample(rng)


def _step_scalar_normal(distribution: Any, value: Any, scale: float, rng: UniformSource) -> Move:
    if type(value) is float:
        return value + scale * distribution.scale * standard_normal_quantile(rng.random()), 0.0
    return _step_unbounded(distribution, value, scale, rng)


def _step_unbounded(distribution: Any, value: Any, scale: float, rng: UniformSource) -> Move:
    return value + scale * distribution.stddev * _normals(value, rng), 0.0


def _step_by_scale(distribution: Any, value: Any, scale: float, rng: UniformSource) -> Move:
    """Of families without a standard deviation."""
    return value + scale * distribution.scale * _normals(value, rng), 0.0


def _step_uniform(distribution: Any, value: Any, scale: float, rng: UniformSource) -> Move:
    low, high = distribution.low, distribution.high
    return _reflect(value + scale * (high - low) * _normals(value, rng), low, high), 0.0


def _reflect(value: Any, low: Any, high: Any) -> Any:
    """``value`` folded back into [low, high] at its ends, as often as it takes."""
    length = high - low
    place = (value - low) % (2.0 * length)
    folded = low + (length - abs(place - length))
    if type(folded) is float:
        return min(max(folded, low), high)
    return np.clip(folded, low, high)


def _step_angle(distribution: Any, value: Any, scale: float, rng: UniformSource) -> Move:
    width = np.minimum(1.0 / np.sqrt(distribution.concentration), math.pi)
    moved = (value + scale * width * _normals(value, rng) + math.pi) % (2.0 * math.pi) - math.pi
    return (float(moved) if np.ndim(moved) == 0 else moved), 0.0


def _step_count(distribution: Any, value: Any, scale: float, rng: UniformSource) -> Move:
    step = scale * distribution.stddev * _normals(value, rng)
    moved = value + np.trunc(step) + np.sign(step)  # at least one up or down
    return (int(moved) if np.ndim(moved) == 0 else moved.astype(np.int64)), 0.0


def _step_shares(distribution: Any, value: Any, scale: float, rng: UniformSource) -> Move:
    """A normal step of the logarithms of each vector; it is symmetric in log ratios, whose volume is the product."""
    logs = np.log(value) + scale * _normals(value, rng)
    moved = np.exp(logs - logs.max(axis=-1, keepdims=True))
    moved = np.maximum(moved / moved.sum(axis=-1, keepdims=True), SMALLEST)
    return moved, float(np.sum(np.log(moved)) - np.sum(np.log(value)))


def _step_allotment(distribution: Any, value: Any, scale: float, rng: UniformSource) -> Move:
    """Moves some of the counts of one category to another, in every vector."""
    moved = np.array(value)
    categories = moved.shape[-1]
    if categories == 1:
        return moved, 0.0
    widths = np.broadcast_to(distribution.stddev, moved.shape).reshape(-1, categories)
    for row, width in zip(moved.reshape(-1, categories), widths, strict=True):
        source = int(rng.random() * categories)
        target = (source + 1 + int(rng.random() * (categories - 1))) % categories
        # Of two categories the same width both ways, so that the way back is as likely.
        step = scale * math.sqrt(width[source] * width[target]) * abs(standard_normal_quantile(rng.random()))
        row[source] -= 1 + math.floor(step)
        row[target] += 1 + math.floor(step)
    return moved, 0.0


def _flip(distribution: Any, value: Any, scale: float, rng: UniformSource) -> Move:
    return 1 - value, 0.0


def _from_prior(distribution: Any, value: Any, scale: float, rng: UniformSource) -> Move:
    return draw_from_prior(distribution, value, rng)


def _step_by_support(distribution: Any, value: Any, scale: float, rng: UniformSource) -> Move:
    """The step that fits the bounds of the support."""
    if distribution.discrete:
        return draw_from_prior(distribution, value, rng)
    if isinstance(distribution, NumpyroDistribution):
        return _step_in_numpyro(distribution, value, scale, rng)
    low, high = distribution.support
    if np.ndim(low) or np.ndim(high):
        return _step_by_array_support(distribution, value, scale, rng)
    if math.isfinite(low) and math.isfinite(high):
        return _reflect(value + scale * (high - low) * _normals(value, rng), low, high), 0.0
    if math.isfinite(low):
        return _step_of_logarithm(value, low, scale, rng)
    if math.isfinite(high):
        mirrored, log_ratio = _step_of_logarithm(-value, -high, scale, rng)
        return -mirrored, log_ratio
    return _step_unbounded(distribution, value, scale, rng)


def _step_in_numpyro(distribution: NumpyroDistribution, value: Any, scale: float, rng: UniformSource) -> Move:
    """A normal step of the unbounded vector that numpyro's transform makes into a value (of a simplex, say)."""
    import jax.numpy as jnp
    from numpyro.distributions import biject_to

    transform = biject_to(distribution.twin.support)
    here = transform.inv(jnp.asarray(value))
    there = here + scale * jnp.asarray(_normals(here, rng))
    moved = transform(there)
    log_volumes = transform.log_abs_det_jacobian(jnp.stack([here, there]), jnp.stack([jnp.asarray(value), moved]))
    log_ratio = float(jnp.sum(log_volumes[1]) - jnp.sum(log_volumes[0]))
    if not math.isfinite(log_ratio):  # on the very edge, in float32: it stays
        return value, 0.0
    return np.asarray(moved, dtype=np.float64)[()], log_ratio


def _step_by_array_support(distribution: Any, value: Any, scale: float, rng: UniformSource) -> Move:
    low, high = (np.broadcast_to(bound, distribution.shape) for bound in distribution.support)
    if np.isfinite(low).all() and np.isfinite(high).all():
        return _reflect(value + scale * (high - low) * _normals(value, rng), low, high), 0.0
    if np.isfinite(low).all() and not np.isfinite(high).any():
        return _step_of_logarithm(value, low, scale, rng)
    return draw_from_prior(distribution, value, rng)


def _step_of_logarithm(value: Any, low: Any, scale: float, rng: UniformSource) -> Move:
    step = scale * _normals(value, rng)
    return low + (value - low) * np.exp(step), float(np.sum(step))


_STEPS: dict[type, Callable[[Any, Any, float, UniformSource], Move]] = {
    Normal: _step_scalar_normal,
    MultivariateNormal: _step_unbounded,
    Uniform: _step_uniform,
    VonMises: _step_angle,
    Poisson: _step_count,
    Binomial: _step_count,
    NegativeBinomial: _step_count,
    NegativeBinomial2: _step_count,
    BetaBinomial: _step_count,
    Geometric: _step_count,
    Hypergeometric: _step_count,
    ZeroInflatedPoisson: _step_count,
    StudentT: _step_by_scale,
    Cauchy: _step_by_scale,
    Dirichlet: _step_shares,
    Multinomial: _step_allotment,
    Bernoulli: _flip,
    Categorical: _from_prior,
    Delta: _from_prior,
    Mixture: lambda distribution, value, scale, rng: _step_mixture(distribution, value, scale, rng),
}


def _step_mixture(distribution: Any, value: Any, scale: float, rng: UniformSource) -> Move:
    """A mixture's support may have gaps, in which a step is merely refused; a mixture with point masses is redrawn."""
    if distribution.discrete or any(isinstance(component, Delta) for component in distribution.components):
        return draw_from_prior(distribution, value, rng)
    return _step_by_support(distribution, value, scale, rng)
