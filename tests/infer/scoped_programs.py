"""Programs with rejection scopes whose posteriors are known by quadrature or enumeration, and networks made by hand."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from functools import cache

import jax
import numpy as np
from scipy import integrate, stats

import ppl_jax as ppl
import ppl_jax.distributions as dist
from ppl_jax import handlers
from ppl_jax.nn import FeedForward
from ppl_jax.training.trainer import Settings, prepare

# -- networks ----------------------------------------------------------------------------------------------------------


@cache
def untrained(model, core=None, components=1, prior_share=0.0):
    """A network with fresh parameters that proposes nevertheless; tests of one program share it."""
    trainer = prepare(
        model, Settings(64, 64, 0), observe_embeddings=None, core=core or FeedForward(8, 1),
        mixture_components=components, prior_share=prior_share, validation_traces=200, network=None, num_workers=1,
        backend="host",
    )  # fmt: skip
    return replace(trainer.network(), least_visits=0)


def silent(model):
    """A network that proposes nowhere, for programs that bring proposals of their own."""
    return replace(untrained(model), least_visits=10**9)


def by_hand(model, location, scale, prior_share=0.0):
    """A network that proposes Normal(location, scale), in units of the prior, for every normal draw."""
    network = untrained(model, prior_share=prior_share)
    params = jax.tree.map(np.array, network.params)
    params["heads"][:] = 0.0
    params["biases"][:] = [0.0, location, math.log(scale)]  # of one component: logit, location, log scale
    return replace(network, params=params)


# -- a truncated Gaussian ----------------------------------------------------------------------------------------------

NOISE = 0.5


@cache
def truncated(level, proposal=None):
    """z ~ Normal(0, 1) given z > level, by rejection; y ~ Normal(z, 1/2)."""

    def model():
        with ppl.rejection_scope("tail") as scope:
            while True:
                if proposal is None:
                    z = ppl.sample(dist.Normal(0.0, 1.0), name="z")
                else:
                    with handlers.propose(proposal=lambda site: proposal):
                        z = ppl.sample(dist.Normal(0.0, 1.0), name="z")
                if z > level:
                    break
                scope.reject()
        ppl.observe(dist.Normal(z, NOISE), name="y")
        return z

    return model


def truncated_posterior(level, y):
    """Evidence, and mean of z."""

    def density(z):
        return stats.norm.pdf(z) / stats.norm.sf(level) * stats.norm.pdf(y, z, NOISE)

    evidence = integrate.quad(density, level, level + 12.0, points=[level + 1.0, max(y, level + 0.1)])[0]
    return evidence, integrate.quad(lambda z: z * density(z), level, level + 12.0)[0] / evidence


def truncated_with_mean():
    """mu ~ Uniform(-1.5, 1.5), z ~ Normal(mu, 1) given z > 0: the probability of acceptance depends on mu."""
    mu = ppl.sample(dist.Uniform(-1.5, 1.5), name="mu")
    with ppl.rejection_scope("tail") as scope:
        while (z := ppl.sample(dist.Normal(mu, 1.0), name="z")) <= 0.0:
            scope.reject()
    ppl.observe(dist.Normal(z, NOISE), name="y")
    return mu


def truncated_with_mean_posterior(y):
    """Evidence, and mean of mu."""
    z = np.linspace(0.0, 10.0, 4001)

    def inner(mu):
        density = stats.norm.pdf(z, mu, 1.0) / stats.norm.sf(0.0, mu, 1.0) * stats.norm.pdf(y, z, NOISE)
        return float(integrate.simpson(density, x=z)) / 3.0

    evidence = integrate.quad(inner, -1.5, 1.5)[0]
    return evidence, integrate.quad(lambda mu: mu * inner(mu), -1.5, 1.5)[0] / evidence


# -- Marsaglia's method ------------------------------------------------------------------------------------------------


def polar():
    """A standard normal number by Marsaglia's polar method, in a scope."""
    with ppl.rejection_scope("polar") as scope:
        while True:
            x = ppl.sample(dist.Uniform(-1.0, 1.0), name="x")
            y = ppl.sample(dist.Uniform(-1.0, 1.0), name="y")
            s = x * x + y * y
            if 0.0 < s < 1.0:
                break
            scope.reject()
    return x * math.sqrt(-2.0 * math.log(s) / s)


def observed_twice(mu):
    """GUM's data."""
    ppl.observe(dist.Normal(mu, math.sqrt(2.0)), name="obs0")
    ppl.observe(dist.Normal(mu, math.sqrt(2.0)), name="obs1")
    return mu


def marsaglia():
    """GUM whose mean comes from Marsaglia's polar method in a scope."""
    return observed_twice(1.0 + math.sqrt(5.0) * polar())


def marsaglia_posterior(data):
    """Evidence, and mean of mu: over the disc, on which (x, y) is uniform; midpoints in s = r**2 and in the angle."""
    s, angle = np.meshgrid((np.arange(20_000) + 0.5) / 20_000, (np.arange(400) + 0.5) * 2.0 * math.pi / 400)
    mu = 1.0 + math.sqrt(5.0) * np.cos(angle) * np.sqrt(-2.0 * np.log(s))
    likelihood = stats.norm.pdf(data["obs0"], mu, math.sqrt(2.0)) * stats.norm.pdf(data["obs1"], mu, math.sqrt(2.0))
    return float(likelihood.mean()), float((mu * likelihood).mean() / likelihood.mean())


def half_marsaglia():
    """GUM whose mean is a + b: a ~ Normal(1, sqrt 2), and b ~ Normal(0, sqrt 3) by Marsaglia's method in a scope."""
    a = ppl.sample(dist.Normal(1.0, math.sqrt(2.0)), name="a")
    return observed_twice(a + math.sqrt(3.0) * polar())


#: Mean and variance of a given 8 and 9: the share 2 / 5 of what is learnt of mu, and what is left.
HALF_MEAN, HALF_VARIANCE = 1.0 + 0.4 * 6.25, 2.0 - 0.4**2 * (5.0 - 5.0 / 6.0)


# -- a loop in a loop, of discrete draws -------------------------------------------------------------------------------

OUTER, INNER = [0.5, 0.3, 0.2], [0.6, 0.25, 0.15]
OUTER_PROPOSAL, INNER_PROPOSAL = [0.35, 0.35, 0.3], [0.4, 0.3, 0.3]


def nested():
    """x, and y >= x by an inner loop; a pass of the outer one is accepted if x + y is even or a coin says so."""

    def draw(name, prior, proposal):
        with handlers.propose(proposal=lambda site: dist.Categorical(proposal)):
            return ppl.sample(dist.Categorical(prior), name=name)

    with ppl.rejection_scope("outer") as outer:
        while True:
            x = draw("x", OUTER, OUTER_PROPOSAL)
            with ppl.rejection_scope("inner") as inner:
                while (y := draw("y", INNER, INNER_PROPOSAL)) < x:
                    inner.reject()
            if (x + y) % 2 == 0 or draw("coin", [0.8, 0.2], [0.5, 0.5]) == 1:
                break
            outer.reject()
    ppl.observe(dist.Normal(x + y, 1.0), name="data")
    return x


def nested_posterior(data):
    """Evidence, and mean of x."""
    evidence = moment = accepted = 0.0
    for x, y in itertools.product(range(3), range(3)):
        if y >= x:
            p = OUTER[x] * INNER[y] / sum(INNER[x:]) * (1.0 if (x + y) % 2 == 0 else 0.2)
            accepted += p
            evidence += p * stats.norm.pdf(data, x + y, 1.0)
            moment += x * p * stats.norm.pdf(data, x + y, 1.0)
    return evidence / accepted, moment / evidence
