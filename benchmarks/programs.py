"""The programs that are timed, and what is known of them; ``peer/models.py`` has the same ones for the peer.

A program is written here exactly as there: the same draws in the same order, none named, the same distributions made
at the same places, the same result. What the timed engines return is held against the exact means below.
"""

import math
from typing import Any

import numpy as np

import ppl_jax as ppl
import ppl_jax.distributions as dist

GUM_DATA = {"obs0": 8.0, "obs1": 9.0}
GUM_MEANS = {"prior": 1.0, "posterior": 7.25}


def observe_twice(mean: Any) -> Any:
    """Two observations of ``mean`` with standard deviation sqrt(2)."""
    likelihood = dist.Normal(mean, math.sqrt(2.0))
    ppl.observe(likelihood, name="obs0")
    ppl.observe(likelihood, name="obs1")
    return mean


def gum() -> Any:
    """Gaussian with unknown mean: prior N(1, sqrt 5), drawn at once. JAX can trace it."""
    return observe_twice(ppl.sample(dist.Normal(1.0, math.sqrt(5.0))))


def gum_marsaglia() -> Any:
    """GUM-M: the same mean, drawn by Marsaglia's polar method: a loop until two uniforms fall in the disc."""
    uniform = dist.Uniform(-1.0, 1.0)
    square = 1.0
    while square >= 1.0:
        x, y = ppl.sample(uniform), ppl.sample(uniform)
        square = x * x + y * y
    return observe_twice(1.0 + math.sqrt(5.0) * x * math.sqrt(-2.0 * math.log(square) / square))


HMM_START = (1 / 3, 1 / 3, 1 / 3)
HMM_MOVES = ((0.1, 0.5, 0.4), (0.2, 0.2, 0.6), (0.15, 0.15, 0.7))
HMM_CENTRES = (-1.0, 1.0, 0.0)
HMM_SERIES = (0.9, 0.8, 0.7, 0.0, -0.025, -5.0, -2.0, -0.1, 0.0, 0.13, 0.45, 6.0, 0.2, 0.3, -1.0, -1.0)
HMM_DATA = {f"obs{step}": value for step, value in enumerate(HMM_SERIES)}

_START = dist.Categorical(HMM_START)
_MOVES = [dist.Categorical(probs) for probs in HMM_MOVES]
_LIKELIHOODS = [dist.Normal(centre, 1.0) for centre in HMM_CENTRES]


def hidden_markov() -> Any:
    """Sixteen steps of a hidden Markov model of three states; returns the last state."""
    belief = _START
    for step in range(len(HMM_SERIES)):
        state = ppl.sample(belief)
        ppl.observe(_LIKELIHOODS[state], name=f"obs{step}")
        belief = _MOVES[state]
    return state


def hidden_markov_means() -> dict[str, float]:
    """Exact mean of the last state, a priori and given the series, by the forward recursion."""
    move, prior, posterior = np.array(HMM_MOVES), np.array(HMM_START), np.array(HMM_START)
    for step, value in enumerate(HMM_SERIES):
        if step:
            prior, posterior = prior @ move, posterior @ move
        posterior = posterior * np.exp(-0.5 * (value - np.array(HMM_CENTRES)) ** 2)
        posterior /= posterior.sum()
    states = np.arange(3)
    return {"prior": float(prior @ states), "posterior": float(posterior @ states)}
