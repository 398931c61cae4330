"""Proposals: what the numbers that a head puts out mean as distributions over a draw's coordinate.

A head gives every token ``width`` raw numbers. For a choice the first ones are added to the log probabilities of the
prior; for anything else they are the logits, locations and log scales of a mixture: of normals on the line, truncated
to the prior's bounds where it has any; of normals of the logarithm on the half-line; of logistics cut at the half
integers for counts; of von Mises distributions on the circle. Raw numbers of zero mean the prior's categories, and
components spread over the prior's standard deviation and each nearly as wide as it, so that an untrained proposal is
at least as wide as the prior.

The parameters are computed by one function for device and host; densities are written twice, for training here, and
for guided executions, with the draws, in :mod:`ppl_jax.nn.draws`.
"""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import i0e, ndtr

from ppl_jax.encoding.coordinates import CATEGORY, CIRCLE, COUNT, LINE, LOGARITHM, TAILS

HALF_LOG_2PI = 0.5 * math.log(2.0 * math.pi)
LOG_2PI = math.log(2.0 * math.pi)
_LOGISTIC = 0.65  # the scale of a logistic of standard deviation 1.18
_SPREAD = 1.2  # initial locations lie within so many of the prior's standard deviations
_NARROWEST, _WIDEST = -9.0, 2.5  # bounds of log scales
_SHARPNESS = 4.0  # of the bend by which locations keep within the bounds
_REACH = 8.0  # of the prior's standard deviations, within which locations without a bound are as the network says
_BEYOND = 4.0  # of them, by which locations may lie farther: nothing that the prior gives does

Mixture = tuple[Any, Any, Any]  # logits, locations, scales: each (..., components)


def mixture(raw: Any, kind: Any, bounds: Any, components: int, xp: Any = jnp) -> Mixture:
    """The mixtures that raw numbers mean.

    Args:
      raw: (..., width); ``kind``: (...,), of frames; ``bounds``: (..., 2), coordinates of the prior's bounds.
      components: how many components.
      xp: ``jax.numpy`` or ``numpy``.

    Returns:
      Logits, locations and scales, each (..., components). Locations lie between the bounds; where there is none,
      within twelve of the prior's standard deviations.
    """
    logits = raw[..., :components]
    spread = np.linspace(-_SPREAD, _SPREAD, components, dtype=raw.dtype) if components > 1 else np.zeros(1, raw.dtype)
    low, high = bounds[..., :1], bounds[..., 1:]
    locations = raw[..., components : 2 * components] + spread
    locations = _between(_within_reach(locations, (kind != CIRCLE)[..., None], low, high, xp), low, high, xp)
    log_scales = xp.clip(raw[..., 2 * components : 3 * components], _NARROWEST, _WIDEST)
    scales = xp.exp(log_scales) * xp.where((kind == COUNT)[..., None], _LOGISTIC, 1.0).astype(raw.dtype)
    return logits, locations, scales


def _within_reach(x: Any, on_line: Any, low: Any, high: Any, xp: Any) -> Any:
    """``x`` held back smoothly beyond ``_REACH`` where no bound does so: a network extrapolates without end."""
    beyond = xp.maximum(xp.abs(x) - _REACH, 0.0)
    unbounded = xp.where(x > 0.0, high == np.inf, low == -np.inf)
    held = xp.sign(x) * (_REACH - _BEYOND * xp.expm1(-beyond / _BEYOND))
    return xp.where(on_line & unbounded & (beyond > 0.0), held, x)


def _between(x: Any, low: Any, high: Any, xp: Any) -> Any:
    """``x`` moved smoothly between the bounds: a location that was cut off there could not learn to come back."""
    has_low, has_high = xp.isfinite(low), xp.isfinite(high)
    some_low, some_high = xp.where(has_low, low, 0.0), xp.where(has_high, high, 0.0)
    x = xp.where(has_low, some_low + xp.logaddexp(0.0, _SHARPNESS * (x - some_low)) / _SHARPNESS, x)
    x = xp.where(has_high, some_high - xp.logaddexp(0.0, _SHARPNESS * (some_high - x)) / _SHARPNESS, x)
    return xp.clip(x, low, high)


def log_density(raw: jax.Array, batch: Any, components: int, kinds: tuple[int, ...]) -> jax.Array:
    """Log densities of a batch's coordinates under the proposals that raw numbers mean.

    Args:
      raw: (R, T, width).
      batch: a Batch, of which kind, u, bounds, half_bin, place and log_probs are read.
      components: of mixtures.
      kinds: the kinds that occur; what does not is not compiled.

    Returns:
      (R, T); the prior's where nothing is proposed.
    """
    result = batch.log_prior
    if set(kinds) - {CATEGORY}:
        logits, locations, scales = mixture(raw, batch.kind, batch.bounds, components)
        u = batch.u[..., None]
        terms = jnp.zeros_like(logits)
        if {LINE, LOGARITHM, TAILS}.intersection(kinds):
            z = (u - locations) / scales
            normal = -0.5 * z * z - HALF_LOG_2PI - jnp.log(scales)
            if LINE in kinds:
                normal = normal - _log_mass(locations, scales, batch.bounds)
            terms = normal
        if COUNT in kinds:
            terms = jnp.where((batch.kind == COUNT)[..., None], _log_bin(u, locations, scales, batch), terms)
        if CIRCLE in kinds:
            terms = jnp.where((batch.kind == CIRCLE)[..., None], _log_von_mises(u, locations, scales, batch), terms)
        density = jax.nn.logsumexp(terms + jax.nn.log_softmax(logits), axis=-1)
        mixed = (batch.kind == LINE) | (batch.kind == LOGARITHM) | (batch.kind == COUNT) | (batch.kind == CIRCLE)
        if TAILS in kinds:
            mixed = mixed | (batch.kind == TAILS)
        result = jnp.where(mixed, density, result)
    if CATEGORY in kinds:
        width = batch.log_probs.shape[-1]
        log_shares = jax.nn.log_softmax(raw[..., :width] + batch.log_probs)
        chosen = jnp.arange(width) == batch.u[..., None]
        choice = jnp.where(chosen, log_shares, 0.0).sum(axis=-1)
        result = jnp.where(batch.kind == CATEGORY, choice, result)
    return result


def _log_mass(locations: jax.Array, scales: jax.Array, bounds: jax.Array) -> jax.Array:
    """Log of the mass that normals have between the bounds; they are centred there, so it never underflows."""
    low, high = bounds[..., :1], bounds[..., 1:]
    has_low, has_high = jnp.isfinite(low), jnp.isfinite(high)
    # The branch of a `where` that is not taken must be differentiable too, so no infinity enters the divisions.
    below = jnp.where(has_low, ndtr((jnp.where(has_low, low, 0.0) - locations) / scales), 0.0)
    above = jnp.where(has_high, ndtr((jnp.where(has_high, high, 0.0) - locations) / scales), 1.0)
    mass = above - below
    bounded = has_low | has_high
    return jnp.where(bounded, jnp.log(jnp.maximum(mass, 1e-6)), 0.0)


def _log_bin(u: jax.Array, locations: jax.Array, scales: jax.Array, batch: Any) -> jax.Array:
    """Log of the mass that logistics have within half a bin of u; what lies beyond a bound belongs to the bound."""
    half = batch.half_bin[..., None]
    low, high = batch.bounds[..., :1], batch.bounds[..., 1:]
    below = (u - half - locations) / scales
    above = (u + half - locations) / scales
    at_low, at_high = u - half < low, u + half > high
    share = -jnp.expm1(jnp.minimum(below - above, -1e-6))
    inside = jax.nn.log_sigmoid(above) + jax.nn.log_sigmoid(-below) + jnp.log(share)
    one_sided = jnp.where(at_low, jax.nn.log_sigmoid(above), jax.nn.log_sigmoid(-below))
    return jnp.where(at_low & at_high, 0.0, jnp.where(at_low | at_high, one_sided, inside))


def _log_von_mises(u: jax.Array, locations: jax.Array, scales: jax.Array, batch: Any) -> jax.Array:
    """Log densities in the coordinate; scales are in coordinates too, and concentrations are scale**-2."""
    stretch = jnp.exp(batch.place[..., 1:])
    concentration = (scales * stretch) ** -2
    sine = jnp.sin(0.5 * (u - locations) * stretch)
    return -2.0 * concentration * sine * sine - LOG_2PI - jnp.log(i0e(concentration)) + jnp.log(stretch)
