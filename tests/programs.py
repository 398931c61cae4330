"""Probabilistic programs whose posteriors are known: in closed form, by enumeration, or by forward-backward.

scipy.stats is imported where it is needed: that takes half a second, and simulators that import this file are started
by the hundred.
"""

from __future__ import annotations

import math

import numpy as np

import ppl_jax as ppl
import ppl_jax.distributions as dist

# -- Gaussian with unknown mean --------------------------------------------------------------------------------------

GUM_DATA = {"obs0": 8.0, "obs1": 9.0}
GUM_MEAN, GUM_STDDEV = 7.25, math.sqrt(1.0 / (1.0 / 5.0 + 2.0 / 2.0))
# The data less their means, (7, 8), under the covariance ((7, 5), (5, 7)), whose determinant is 24.
GUM_LOG_EVIDENCE = -0.5 * ((7 * 7**2 - 2 * 5 * 7 * 8 + 7 * 8**2) / 24 + math.log(24.0 * (2.0 * math.pi) ** 2))


def gum():
    mu = ppl.sample(dist.Normal(1.0, math.sqrt(5.0)), name="mu")
    ppl.observe(dist.Normal(mu, math.sqrt(2.0)), name="obs0")
    ppl.observe(dist.Normal(mu, math.sqrt(2.0)), name="obs1")
    return mu


def gum_marsaglia():
    """The same posterior; the mean is drawn by Marsaglia's polar method, a rejection loop."""
    mu = marsaglia(1.0, math.sqrt(5.0))
    ppl.observe(dist.Normal(mu, math.sqrt(2.0)), name="obs0")
    ppl.observe(dist.Normal(mu, math.sqrt(2.0)), name="obs1")
    ppl.tag(mu, name="mu")
    return mu


def marsaglia(mean, stddev):
    uniform = dist.Uniform(-1.0, 1.0)
    while True:
        x = ppl.sample(uniform)
        y = ppl.sample(uniform)
        s = x * x + y * y
        if 0.0 < s < 1.0:
            return mean + stddev * x * math.sqrt(-2.0 * math.log(s) / s)


# -- a scope that is left by an exception ----------------------------------------------------------------------------


def left_by_an_exception():
    """An exception leaves the inner scope in every pass; the third pass is accepted, and observing is allowed again."""
    with ppl.rejection_scope("outer") as outer:
        for attempt in range(3):
            try:
                with ppl.rejection_scope("inner"):
                    ppl.sample(dist.Normal(0.0, 1.0), name=f"x{attempt}")
                    raise ValueError
            except ValueError:
                pass
            if attempt < 2:
                outer.reject()
    ppl.observe(dist.Normal(0.0, 1.0), 0.0, name="y")


# -- a Bayesian network of coins -------------------------------------------------------------------------------------

SPRINKLER_DATA = {"wet": 1}


def sprinkler():
    rain = ppl.sample(dist.Bernoulli(0.2), name="rain")
    sprinkled = ppl.sample(dist.Bernoulli(0.01 if rain else 0.4), name="sprinkler")
    ppl.observe(dist.Bernoulli(_wet(rain, sprinkled)), name="wet")
    return rain


def _wet(rain, sprinkled):
    return 0.99 if rain and sprinkled else 0.8 if rain else 0.9 if sprinkled else 0.05


def sprinkler_posterior():
    """P(rain | wet), and log P(wet)."""
    joint = {}
    for rain in (0, 1):
        for sprinkled in (0, 1):
            on = 0.01 if rain else 0.4
            joint[rain, sprinkled] = (0.2 if rain else 0.8) * (on if sprinkled else 1 - on) * _wet(rain, sprinkled)
    evidence = sum(joint.values())
    return (joint[1, 0] + joint[1, 1]) / evidence, math.log(evidence)


# -- recursion: a geometric number of coins --------------------------------------------------------------------------

RECURSION_DATA = {"count": 4}


def recursion():
    depth = flips(0.4)
    ppl.observe(dist.Poisson(1.0 + depth), name="count")
    return depth


def flips(stop):
    return 0 if ppl.sample(dist.Bernoulli(stop), name="stop") else 1 + flips(stop)


def recursion_posterior(most=80):
    """P(depth | count) for depth = 0 ... most - 1, and log P(count)."""
    from scipy import stats

    depth = np.arange(most)
    joint = 0.4 * 0.6**depth * stats.poisson.pmf(RECURSION_DATA["count"], 1.0 + depth)
    return joint / joint.sum(), math.log(joint.sum())


# -- branching: the number and kind of latents depends on the first one ----------------------------------------------

BRANCHING_DATA = {"y": 6}


def branching():
    """Wood, van de Meent & Mansinghka (2014), the program "branching"."""
    r = ppl.sample(dist.Poisson(4.0), name="r")
    rate = 6 if r > 4 else fibonacci(3 * r) + ppl.sample(dist.Poisson(4.0), name="extra")
    ppl.observe(dist.Poisson(rate), name="y")
    return r


def fibonacci(n):
    return 1 if n < 2 else fibonacci(n - 1) + fibonacci(n - 2)


def branching_posterior(most=60):
    """P(r | y = 6) for r = 0 ... most - 1, and log P(y)."""
    from scipy import stats

    y = BRANCHING_DATA["y"]
    extra = np.arange(most)
    joint = np.empty(most)
    for r in range(most):
        if r > 4:
            likelihood = stats.poisson.pmf(y, 6.0)
        else:
            likelihood = (stats.poisson.pmf(extra, 4.0) * stats.poisson.pmf(y, fibonacci(3 * r) + extra)).sum()
        joint[r] = stats.poisson.pmf(r, 4.0) * likelihood
    return joint / joint.sum(), math.log(joint.sum())


# -- a hidden Markov model of 16 steps -------------------------------------------------------------------------------

HMM_START = np.array([1.0, 1.0, 1.0]) / 3.0
HMM_MOVE = np.array([[0.1, 0.5, 0.4], [0.2, 0.2, 0.6], [0.15, 0.15, 0.7]])
HMM_MEANS = np.array([-1.0, 1.0, 0.0])
HMM_SERIES = (0.9, 0.8, 0.7, 0.0, -0.025, -5.0, -2.0, -0.1, 0.0, 0.13, 0.45, 6.0, 0.2, 0.3, -1.0, -1.0)
HMM_DATA = {f"y{step}": value for step, value in enumerate(HMM_SERIES)}


def hidden_markov():
    states = []
    probs = HMM_START
    for step in range(len(HMM_SERIES)):
        state = ppl.sample(dist.Categorical(probs), name=f"x{step}")
        ppl.observe(dist.Normal(HMM_MEANS[state], 1.0), name=f"y{step}")
        probs = HMM_MOVE[state]
        states.append(state)
    return states


def hidden_markov_posterior():
    """Marginals P(x_t | y), shape (16, 3), and log P(y), by forward-backward."""
    from scipy import stats

    likelihood = stats.norm.pdf(np.array(HMM_SERIES)[:, None], HMM_MEANS[None, :], 1.0)
    steps = len(HMM_SERIES)
    forward, backward, log_evidence = np.empty((steps, 3)), np.ones((steps, 3)), 0.0
    belief = HMM_START
    for step in range(steps):
        forward[step] = belief * likelihood[step]
        log_evidence += math.log(forward[step].sum())
        forward[step] /= forward[step].sum()
        belief = forward[step] @ HMM_MOVE
    for step in range(steps - 2, -1, -1):
        backward[step] = HMM_MOVE @ (likelihood[step + 1] * backward[step + 1])
        backward[step] /= backward[step].sum()
    marginals = forward * backward
    return marginals / marginals.sum(axis=1, keepdims=True), log_evidence
