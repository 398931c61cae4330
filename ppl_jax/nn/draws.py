"""Draws from proposals on the host, for many executions at once, in double precision.

The raw numbers come from the network in single precision; from there on everything is computed anew in double, so that
the density by which an importance weight is divided is exactly that of the draw. Every execution spends its own
uniforms, the same number in the same order whatever runs beside it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy.special import expit, i0e, logsumexp, ndtr, ndtri

from ppl_jax.distributions.base import LARGEST, LARGEST_COUNT, SMALLEST, Distribution
from ppl_jax.distributions.von_mises import VonMises
from ppl_jax.encoding.batches import unit_bounds
from ppl_jax.encoding.coordinates import (
    CATEGORY,
    CIRCLE,
    COUNT,
    LINE,
    LOGARITHM,
    TAILS,
    Frames,
    coordinates,
    log_stretch,
)
from ppl_jax.nn.proposals import HALF_LOG_2PI, LOG_2PI, mixture

_FARTHEST = 700.0  # of a coordinate whose hyperbolic sine is a number
_SMALLEST_SHARE, _LARGEST_SHARE = 1e-300, 1.0 - 2.0**-53  # quantiles there are finite


def draw(
    raw: np.ndarray,
    frames: Frames,
    log_probs: np.ndarray | None,
    priors: Sequence[Distribution],
    streams: Sequence[Any],
    components: int,
    prior_share: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Draws from the proposals of n draws, and their log densities without the prior's share.

    Args:
      raw: raw numbers, float32 (n, width).
      frames: of the draws, none of kind PRIOR.
      log_probs: log probabilities of choices under the prior, (n, categories); None without choices.
      priors: their scalar priors, n of them.
      streams: the streams of their executions, n of them.
      components: of mixtures.
      prior_share: the probability of drawing from the prior.

    Returns:
      Values and log densities, float64 (n,) each, the densities of the value itself, not of its coordinate.
    """
    proposals = proposals_of(raw, frames, log_probs, components)
    first = np.array([stream.random() for stream in streams])
    second = np.array([stream.random() for stream in streams])
    chosen = (first - prior_share) / (1.0 - prior_share)
    values = np.empty(len(raw))
    if proposals.mixtures is not None:
        where, part, bounds, parameters = proposals.mixtures
        theirs = [streams[k] for k in where.tolist()]
        values[where] = _draw_mixture(parameters, part, bounds, np.maximum(chosen[where], 0.0), second[where], theirs)
    if proposals.choices is not None:
        where, log_shares = proposals.choices
        values[where] = _choose(np.exp(log_shares), np.maximum(chosen[where], 0.0))
    for k in np.flatnonzero(chosen < 0.0).tolist():
        values[k] = priors[k].sample(streams[k])
    return values, log_densities(proposals, values)


class Proposals(NamedTuple):
    """The proposals of n draws.

    Attributes:
      number: n.
      mixtures: which draws have mixtures, their frames, bounds and parameters; None if none has.
      choices: which are choices, and the log probabilities of their categories; None if none is.
    """

    number: int
    mixtures: tuple[np.ndarray, Frames, np.ndarray, Any] | None
    choices: tuple[np.ndarray, np.ndarray] | None


def proposals_of(raw: np.ndarray, frames: Frames, log_probs: np.ndarray | None, components: int) -> Proposals:
    """The proposals that raw numbers stand for; the arguments are those of :func:`draw`."""
    raw = raw.astype(np.float64)
    mixtures, choices = None, None
    chosen = frames.kind == CATEGORY
    if not chosen.all():
        where = np.flatnonzero(~chosen)
        part = frames.take(where)
        bounds = unit_bounds(part)
        mixtures = where, part, bounds, mixture(raw[where], part.kind, bounds, components, np)
    if chosen.any():
        assert log_probs is not None
        where = np.flatnonzero(chosen)
        log_shares = log_probs[where] + raw[where, : log_probs.shape[1]]
        log_shares -= logsumexp(log_shares, axis=1, keepdims=True)
        choices = where, log_shares
    return Proposals(len(raw), mixtures, choices)


def log_densities(proposals: Proposals, values: np.ndarray) -> np.ndarray:
    """Log densities of values (n,) under proposals, without the prior's share, float64 (n,).

    They are those of the values themselves, not of their coordinates, and to the bit what :func:`draw` gives with the
    values.
    """
    log_density = np.empty(proposals.number)
    if proposals.mixtures is not None:
        where, part, bounds, parameters = proposals.mixtures
        log_density[where] = _log_mixture(parameters, part, bounds, values[where])
    if proposals.choices is not None:
        where, log_shares = proposals.choices
        log_density[where] = log_shares[np.arange(len(where)), values[where].astype(np.int64)]
    return log_density


def _choose(shares: np.ndarray, uniform: np.ndarray) -> np.ndarray:
    """The category at each quantile, int64 (n,); never one of no share."""
    sums = shares.cumsum(axis=1)
    chosen = (sums <= uniform[:, None] * sums[:, -1:]).sum(axis=1)
    last = shares.shape[1] - 1 - np.argmax(shares[:, ::-1] > 0.0, axis=1)
    return np.minimum(chosen, last)


def _draw_mixture(
    parameters: Any, frames: Frames, bounds: np.ndarray, choice: np.ndarray, quantile: np.ndarray, streams: list[Any]
) -> np.ndarray:
    logits, locations, scales = parameters
    shares = np.exp(logits - logsumexp(logits, axis=1, keepdims=True))
    component = _choose(shares, choice)
    at = np.arange(len(component))
    location, scale = locations[at, component], scales[at, component]
    values = np.empty(len(component))
    tails = frames.kind == TAILS
    normal = (frames.kind == LINE) | (frames.kind == LOGARITHM) | tails
    if normal.any():
        below, above = ndtr((bounds[:, 0] - location) / scale), ndtr((bounds[:, 1] - location) / scale)
        share = np.clip(below + quantile * (above - below), _SMALLEST_SHARE, _LARGEST_SHARE)
        u = np.clip(location + scale * ndtri(share), bounds[:, 0], bounds[:, 1])
        x = frames.shift + frames.scale * u
        with np.errstate(over="ignore"):
            positive = np.clip(np.exp(np.where(frames.kind == LOGARITHM, x, 0.0)), SMALLEST, LARGEST)
        values = np.where(frames.kind == LOGARITHM, frames.low + positive, np.clip(x, frames.low, frames.high))
        if tails.any():
            far = frames.shift + frames.scale * np.sinh(np.clip(np.where(tails, u, 0.0), -_FARTHEST, _FARTHEST))
            values = np.where(tails, np.clip(far, -LARGEST, LARGEST), values)
    counts = frames.kind == COUNT
    if counts.any():
        u = location + scale * (np.log(quantile) - np.log1p(-quantile))
        whole = np.clip(np.floor(frames.shift + frames.scale * u + 0.5), frames.low, frames.high)
        values = np.where(counts, np.clip(whole, -LARGEST_COUNT, LARGEST_COUNT), values)
    for k in np.flatnonzero(frames.kind == CIRCLE).tolist():
        centre = frames.shift[k] + frames.scale[k] * location[k]
        concentration = (scale[k] * frames.scale[k]) ** -2.0
        values[k] = VonMises._draw(streams[k].random, float(centre), float(concentration))
    return values


def _log_mixture(parameters: Any, frames: Frames, bounds: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Log densities of values, float64 (n,)."""
    logits, locations, scales = parameters
    u = coordinates(frames, values)
    with np.errstate(all="ignore"):
        distance = u[:, None] - locations
        z = distance / scales
        terms = -0.5 * z * z - HALF_LOG_2PI - np.log(scales)
        bounded = np.isfinite(bounds).any(axis=1) & (frames.kind == LINE)
        if bounded.any():
            low, high = bounds[bounded, :1], bounds[bounded, 1:]
            loc, scale = locations[bounded], scales[bounded]
            terms[bounded] -= np.log(ndtr((high - loc) / scale) - ndtr((low - loc) / scale))
        counts = frames.kind == COUNT
        if counts.any():
            part = frames.take(counts)
            half = 0.5 / part.scale
            below = (u[counts] - half)[:, None] - locations[counts]
            above = (u[counts] + half)[:, None] - locations[counts]
            below = np.where((values[counts] <= part.low)[:, None], -np.inf, below) / scales[counts]
            above = np.where((values[counts] >= part.high)[:, None], np.inf, above) / scales[counts]
            # The difference of two logistic functions, on the side where both are small.
            right = below > 0.0
            mass = np.where(right, expit(-below) - expit(-above), expit(above) - expit(below))
            terms[counts] = np.log(mass)
        circle = frames.kind == CIRCLE
        if circle.any():
            width = frames.scale[circle, None]
            concentration = (scales[circle] * width) ** -2.0
            sine = np.sin(0.5 * distance[circle] * width)
            terms[circle] = -2.0 * concentration * sine * sine - LOG_2PI - np.log(i0e(concentration)) + np.log(width)
    weights = logits - logsumexp(logits, axis=1, keepdims=True)
    return logsumexp(terms + weights, axis=1) - log_stretch(frames, u)


def mixed_with_prior(log_density: Any, log_prior: Any, prior_share: float) -> Any:
    """Log of (1 - share) * density + share * prior."""
    if prior_share == 0.0:
        return log_density
    return np.logaddexp(math.log1p(-prior_share) + log_density, math.log(prior_share) + log_prior)
