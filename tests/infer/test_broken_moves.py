"""Moves of single-site Metropolis-Hastings at which the program fails: refused, counted and told."""

import math
import warnings

import numpy as np
import pytest
from scipy.stats import truncnorm

import ppl_jax as ppl
import ppl_jax.distributions as dist

LIMIT = 709.78 / 150.0  # from which on exp(150 t) overflows: of the prior's draws two in a million are beyond


def overflowing():
    t = ppl.sample(dist.Normal(0.0, 1.0), name="t")
    math.exp(150.0 * t)
    ppl.observe(dist.Normal(t, 0.5), name="y")


def negative_scale():
    t = ppl.sample(dist.Normal(0.0, 1.0), name="t")
    ppl.sample(dist.Normal(0.0, LIMIT - t), name="u")
    ppl.observe(dist.Normal(t, 0.5), name="y")


def raising():
    t = ppl.sample(dist.Normal(0.0, 1.0), name="t")
    if t > 2.0:
        raise OverflowError("too large")
    ppl.observe(dist.Normal(t, 0.5), name="y")


def run(model, number=4000, **settings):
    return ppl.metropolis_hastings(model, {"y": 5.5}, number, burn_in=500, seed=3, progress=False, **settings)


def exact():
    """Mean of Normal(4.4, sqrt(0.2)), the posterior of t, below LIMIT."""
    scale = math.sqrt(0.2)
    return truncnorm(-np.inf, (LIMIT - 4.4) / scale, loc=4.4, scale=scale).mean()


@pytest.mark.parametrize("model", [overflowing, negative_scale])
def test_the_chain_goes_on_and_tells_what_failed(model):
    """The mean is that of the posterior where the program runs, within four standard errors."""
    with pytest.warns(RuntimeWarning, match=r"of 20,500 .*rejected.*the chain had proposed the value .* 't'"):
        posterior = run(model, thinning=5)
    t = posterior.map("t")
    assert abs(t.mean - exact()) < 4.0 * t.standard_error


def test_the_number_of_workers_changes_neither_the_traces_nor_what_is_told():
    told, traces = [], []
    for workers in (1, 2):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            posterior = run(overflowing, 600, num_chains=3, num_workers=workers)
        told.append([str(one.message) for one in caught if "executions failed" in str(one.message)])
        traces.append(posterior.map("t").values)
    assert len(told[0]) == 1
    assert told[0] == told[1]
    np.testing.assert_array_equal(traces[0], traces[1])


def test_what_fails_at_values_that_the_prior_gives_too_is_not_forgiven():
    with pytest.raises(ppl.ModelError, match=r"too large.*the chain had proposed the value"):
        run(raising)
