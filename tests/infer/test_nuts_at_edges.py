"""NUTS where probabilities round to 0 and 1: posteriors by quadrature on a grid, which is exact to the digits given."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as npd
import pytest

import ppl_jax as ppl
from ppl_jax import distributions as d


def test_a_binomial_runs():
    """p ~ Beta(1, 1), 7 of 20: Beta(8, 14), mean 8/22. 300 draws, of which a third count: 4.5 errors of 0.1 / 10."""

    def model():
        p = ppl.sample(d.Beta(1.0, 1.0), name="p")
        ppl.observe(d.Binomial(20, p), name="k")
        return p

    posterior = ppl.nuts(model, {"k": 7}, 300, burn_in=300, seed=1, progress=False)
    values = np.array([trace.result for trace in posterior])
    sd = np.sqrt(8 * 14 / (22**2 * 23))
    assert abs(values.mean() - 8 / 22) < 4.5 * sd / np.sqrt(100)


def _exact_separable():
    x = np.array([-3.0, -2.0, -1.0, 1.0, 2.0, 3.0])
    w = np.linspace(-100.0, 100.0, 400001)
    log = -0.5 * (w / 10.0) ** 2 - np.logaddexp(0.0, -np.outer(w, x) * np.sign(x)).sum(axis=1)
    weight = np.exp(log - log.max())
    mean = np.average(w, weights=weight)
    return mean, np.sqrt(np.average((w - mean) ** 2, weights=weight))


SEPARABLE = np.array([-3.0, -2.0, -1.0, 1.0, 2.0, 3.0])


def _separable(form):
    def model():
        w = ppl.sample(d.Normal(0.0, 10.0), name="w")
        if form == "logits":
            choice = d.Bernoulli(logits=w * SEPARABLE)
        else:
            choice = d.Bernoulli(jax.nn.sigmoid(w * SEPARABLE))
        ppl.observe(choice, (SEPARABLE > 0.0).astype(int), name="y")
        return w

    def of_numpyro():
        w = numpyro.sample("w", npd.Normal(0.0, 10.0))
        numpyro.sample("y", npd.Bernoulli(logits=w * SEPARABLE), obs=jnp.asarray(SEPARABLE > 0.0, int))
        return w

    return of_numpyro if form == "numpyro" else model


@pytest.mark.slow
@pytest.mark.parametrize("form", ["logits", "probs", "numpyro"])
def test_separable_data(form):
    """Mean 8.91, sd 5.82. 4000 draws, of which a quarter count."""
    mean, sd = _exact_separable()
    assert (round(mean, 2), round(sd, 2)) == (8.91, 5.82)
    posterior = ppl.nuts(_separable(form), None, 4000, burn_in=1000, seed=3, progress=False)
    values = np.array([float(trace.result) for trace in posterior])
    assert abs(values.mean() - mean) < 4.5 * sd / np.sqrt(1000)
    assert abs(values.std() - sd) < 4.5 * sd / np.sqrt(1000)


@pytest.mark.slow
@pytest.mark.parametrize("form", ["logits", "probs"])
def test_logistic_regression(form):
    """E[b] 7.576, sd 2.964, by a grid. 4000 draws, of which a fifth count."""
    x = np.linspace(-2.0, 2.0, 20)
    y = x > 0.3

    def model():
        a, b = ppl.sample(d.Normal(0.0, 5.0), name="a"), ppl.sample(d.Normal(0.0, 5.0), name="b")
        line = a + b * x
        ppl.observe(d.Bernoulli(logits=line) if form == "logits" else d.Bernoulli(jax.nn.sigmoid(line)), y.astype(int))
        return b

    grid = np.linspace(-35.0, 35.0, 1401)
    a, b = np.meshgrid(grid, grid, indexing="ij")
    log = -0.5 * (a * a + b * b) / 25.0
    for one, yes in zip(x, y, strict=True):
        log -= np.logaddexp(0.0, (a + b * one) * (-1.0 if yes else 1.0))
    weight = np.exp(log - log.max())
    mean = np.average(b, weights=weight)
    sd = np.sqrt(np.average((b - mean) ** 2, weights=weight))
    assert (round(mean, 3), round(sd, 3)) == (7.576, 2.964)
    posterior = ppl.nuts(model, None, 4000, burn_in=1000, seed=2, progress=False)
    values = np.array([float(trace.result) for trace in posterior])
    assert abs(values.mean() - mean) < 4.5 * sd / np.sqrt(800)
    assert abs(values.std() - sd) < 4.5 * sd / np.sqrt(800)
