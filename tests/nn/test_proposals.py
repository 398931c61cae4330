"""Proposals: device and host agree, densities are normalised, draws follow them, and untrained ones are wide."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from nn.wide_programs import FAMILIES as FIRST
from nn.wide_programs import MORE
from scipy.special import logsumexp

import ppl_jax.distributions as dist
from ppl_jax.encoding.batches import unit_bounds
from ppl_jax.encoding.coordinates import CATEGORY, LOGARITHM, TAILS, Frames, coordinates, frame_of, log_stretch
from ppl_jax.encoding.tokens import IMPOSSIBLE
from ppl_jax.nn.draws import _log_mixture, draw, mixed_with_prior
from ppl_jax.nn.proposals import log_density, mixture
from ppl_jax.streams import streams

K = 4
FAMILIES = {**FIRST, **MORE}
DISCRETE = [name for name, prior in FAMILIES.items() if prior.discrete]
CONTINUOUS = [name for name in FAMILIES if name not in DISCRETE]


def frames_for(prior, n):
    return Frames(*(np.full(n, column) for column in frame_of(prior)))


def raw_numbers(seed, n, spread=0.7):
    return np.tile(np.random.default_rng(seed).normal(0.0, spread, 3 * K).astype(np.float32), (n, 1))


def log_probs_for(prior, n):
    if isinstance(prior, dist.Bernoulli):
        probs = np.array([1.0 - prior.probs, prior.probs])
    elif isinstance(prior, dist.Categorical):
        probs = prior.probs
    else:
        return None
    with np.errstate(divide="ignore"):
        return np.tile(np.maximum(np.log(np.pad(probs, (0, 4 - len(probs)))), IMPOSSIBLE), (n, 1))


def host_log_density(prior, raw, values):
    """Of values under one proposal, without the prior's share."""
    frames = frames_for(prior, len(values))
    log_probs = log_probs_for(prior, len(values))
    if log_probs is not None:
        scores = log_probs + raw[:, :4]
        return (scores - logsumexp(scores, axis=1, keepdims=True))[np.arange(len(values)), values.astype(int)]
    bounds = unit_bounds(frames)
    return _log_mixture(mixture(raw.astype(float), frames.kind, bounds, K, np), frames, bounds, values)


class OneRow:
    """What ``log_density`` reads of a batch."""

    def __init__(self, prior, values):
        n = len(values)
        frames = frames_for(prior, n)
        log_probs = log_probs_for(prior, n)
        self.kind = jnp.asarray(frames.kind, jnp.int32)[None]
        self.u = jnp.asarray(coordinates(frames, values), jnp.float32)[None]
        self.bounds = jnp.asarray(unit_bounds(frames), jnp.float32)[None]
        self.half_bin = jnp.asarray(0.5 / frames.scale, jnp.float32)[None]
        self.place = jnp.stack([jnp.zeros((1, n)), jnp.log(jnp.asarray(frames.scale, jnp.float32))[None]], axis=-1)
        self.log_prior = jnp.zeros((1, n))
        self.log_probs = jnp.zeros((1, n, 0)) if log_probs is None else jnp.asarray(log_probs, jnp.float32)[None]


@pytest.mark.parametrize("name", FAMILIES)
def test_the_device_has_the_density_of_the_host(name):
    prior = FAMILIES[name]
    values = np.array([float(prior.sample(rng)) for rng in streams(1, 0, 60)])
    raw = raw_numbers(2, 60)
    frames = frames_for(prior, 60)
    with np.errstate(divide="ignore"):
        expected = host_log_density(prior, raw, values) + log_stretch(frames, coordinates(frames, values))
    row, kinds = OneRow(prior, values), (int(frames.kind[0]),)
    found = jax.jit(lambda raw: log_density(raw, row, K, kinds))(jnp.asarray(raw)[None])[0]
    # Single precision: coordinates and tails of a few hundred nats lose about six digits.
    np.testing.assert_allclose(found, expected, rtol=2e-4, atol=2e-4)


@pytest.mark.parametrize("name", FAMILIES)
def test_gradients_are_finite(name):
    prior = FAMILIES[name]
    values = np.array([float(prior.sample(rng)) for rng in streams(1, 0, 20)])
    kind = (frame_of(prior)[0],)
    row = OneRow(prior, values)
    gradient = jax.jit(jax.grad(lambda raw: log_density(raw, row, K, kind).sum()))
    for spread in (0.0, 1.0, 30.0):
        assert np.isfinite(gradient(jnp.asarray(raw_numbers(3, 20, spread))[None])).all()


@pytest.mark.parametrize("name", CONTINUOUS)
@pytest.mark.parametrize("spread", [0.0, 0.7, 2.0])
def test_densities_of_continuous_proposals_are_normalised(name, spread):
    prior = FAMILIES[name]
    raw = raw_numbers(4, 1, spread)
    kind, shift, scale, low, high = frame_of(prior)
    wide = 60.0 * np.exp(spread)
    u = np.linspace(-wide, wide, 200_001)
    if kind == LOGARITHM:
        x = low + np.clip(np.exp(shift + scale * u), 1e-280, 1e280)
    elif kind == TAILS:
        x = shift + scale * np.sinh(np.clip(u, -500.0, 500.0))
    else:
        x = np.linspace(*np.clip([shift - wide * scale, shift + wide * scale], low, high), 200_001)
    density = np.exp(host_log_density(prior, np.tile(raw, (len(x), 1)), x))
    # The trapezoidal rule on a fine grid; the density may be as narrow as a hundredth of the prior's width.
    assert abs(np.trapezoid(density, x) - 1.0) < 2e-3


@pytest.mark.parametrize("name", DISCRETE)
def test_masses_of_discrete_proposals_sum_to_one(name):
    prior = FAMILIES[name]
    low, high = prior.support
    values = np.arange(low, min(high, 400) + 1, dtype=float)
    raw = np.tile(raw_numbers(5, 1), (len(values), 1))
    assert abs(np.exp(np.asarray(host_log_density(prior, raw, values), float)).sum() - 1.0) < 1e-5


@pytest.mark.parametrize("name", FAMILIES)
def test_draws_follow_the_density_and_report_it(name):
    prior, n, share = FAMILIES[name], 4000, 0.1
    raw = raw_numbers(6, n)
    own = list(streams(7, 0, n))
    values, proposed = draw(raw, frames_for(prior, n), log_probs_for(prior, n), [prior] * n, own, K, share)
    np.testing.assert_allclose(proposed, host_log_density(prior, raw, values), rtol=1e-6, atol=1e-6)
    low, high = prior.support
    assert (values >= low).all() and (values <= high).all()
    # E[p / q] = 1 under q, and p / q is at most 1 / share: the mean of n has a standard error of at most
    # sqrt(1 / share / n) = 0.05; four of them.
    log_prior = np.array([prior.log_prob(int(v) if prior.discrete else v) for v in values.tolist()])
    weights = np.exp(log_prior - mixed_with_prior(proposed, log_prior, share))
    assert weights.max() <= 1.0 / share + 1e-6
    assert abs(weights.mean() - 1.0) < 4.0 * weights.std() / np.sqrt(n) + 1e-3
    # And the weighted draws are draws of the prior: compared with it by a weighted mean of ranks.
    fresh = np.sort([float(prior.sample(rng)) for rng in streams(8, 0, n)])
    ranks = (np.searchsorted(fresh, values, "left") + np.searchsorted(fresh, values, "right")) / (2.0 * n)
    error = np.std(weights * (ranks - 0.5)) / np.sqrt(n) + 0.3 / np.sqrt(n)
    assert abs(np.mean(weights * (ranks - 0.5))) < 4.0 * error


@pytest.mark.parametrize("name", FAMILIES)
def test_an_untrained_proposal_is_as_wide_as_the_prior(name):
    prior, n, share = FAMILIES[name], 2000, 0.02
    raw = np.zeros((n, 3 * K), np.float32)
    own = list(streams(9, 0, n))
    values, proposed = draw(raw, frames_for(prior, n), log_probs_for(prior, n), [prior] * n, own, K, share)
    if frame_of(prior)[0] == CATEGORY:
        np.testing.assert_allclose(proposed, [prior.log_prob(int(v)) for v in values], rtol=1e-6)
        return
    # Weights of the prior against it are nowhere large: the effective sample size is at least a third. (The far tail
    # of a truncated normal is exponential, which normals alone do not cover: the prior's own share does.)
    log_prior = np.array([prior.log_prob(int(v) if prior.discrete else v) for v in values.tolist()])
    log_weights = log_prior - mixed_with_prior(proposed, log_prior, share)
    weights = np.exp(log_weights - log_weights.max())
    assert weights.sum() ** 2 / np.square(weights).sum() > n / 3


def test_streams_are_spent_one_by_one():
    prior = FAMILIES["Normal"]
    together = list(streams(1, 0, 5))
    values, _ = draw(raw_numbers(6, 5), frames_for(prior, 5), None, [prior] * 5, together, K, 0.02)
    for number, rng in enumerate(streams(1, 0, 5)):
        value, _ = draw(raw_numbers(6, 1), frames_for(prior, 1), None, [prior], [rng], K, 0.02)
        assert value[0] == values[number]
