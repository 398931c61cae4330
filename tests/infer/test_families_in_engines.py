"""Posteriors with the families that numpyro's users know, under every engine, against conjugate answers and quadrature.

Tolerances are four standard errors as the posterior states them, of runs with fixed seeds; of the evidence, four times
its standard error.
"""

import math

import numpy as np
import pytest
from scipy import stats
from scipy.special import gammaln

import ppl_jax as ppl
import ppl_jax.distributions as dist

QUIET = {"progress": False}
COUNTS = np.array([3, 7, 1, 12])
MEASURED = np.array([0.3, -1.2, 0.8, 9.0, 0.1])


def overdispersed():
    """A mean of counts, by quadrature."""
    mean = ppl.sample(dist.HalfNormal(6.0), "mean")
    ppl.observe(dist.NegativeBinomial2(mean, 2.0), COUNTS[0], name="first")
    ppl.observe(dist.NegativeBinomial2(mean, np.array([2.0, 2.0, 2.0])), COUNTS[1:], name="others")


def robust():
    """A location with heavy tails all around, by quadrature."""
    loc = ppl.sample(dist.Laplace(0.0, 2.0), "loc")
    scale = ppl.sample(dist.HalfCauchy(1.0), "scale")
    for value in MEASURED:
        ppl.observe(dist.StudentT(3.0, loc, scale), value)


def shares():
    """Shares of three categories: the Dirichlet is conjugate to the multinomial."""
    w = ppl.sample(dist.Dirichlet([1.0, 2.0, 3.0]), "w")
    ppl.observe(dist.Multinomial(10, w), [4, 1, 5], name="counts")


def urn():
    """How many marked ones were taken, seen through an error: enumerated."""
    k = ppl.sample(dist.Hypergeometric(20, 8, 6), "k")
    m = ppl.sample(dist.BetaBinomial(2.0, 3.0, 5), "m")
    ppl.observe(dist.Logistic(k + m, 0.5), 4.2, name="y")


def _quadrature_of_counts():
    grid = np.linspace(1e-6, 60.0, 20_001)
    terms = [stats.nbinom(2.0, 2.0 / (2.0 + grid)).logpmf(k) for k in COUNTS]
    return _moments(grid, stats.halfnorm(scale=6.0).logpdf(grid) + sum(terms), grid[1] - grid[0])


def _moments(grid, log_density, step):
    mass = np.exp(log_density)
    return (mass @ grid) / mass.sum(), math.log(mass.sum() * step)


def _quadrature_of_location():
    loc, log_scale = np.linspace(-15.0, 15.0, 1501)[:, None], np.linspace(-6.0, 6.0, 601)
    scale = np.exp(log_scale)
    log_density = stats.laplace(0.0, 2.0).logpdf(loc) + stats.halfcauchy().logpdf(scale) + log_scale
    log_density = log_density + sum(stats.t(3.0, loc, scale).logpdf(x) for x in MEASURED)
    mass = np.exp(log_density)
    evidence = math.log(mass.sum() * 0.02 * 0.02)
    return (mass * loc).sum() / mass.sum(), evidence


def _conjugate():
    prior, counts = np.array([1.0, 2.0, 3.0]), np.array([4.0, 1.0, 5.0])

    def log_beta(a):
        return gammaln(a).sum() - gammaln(a.sum())

    choose = gammaln(11.0) - gammaln(counts + 1.0).sum()
    return ((prior + counts) / 16.0)[0], choose + log_beta(prior + counts) - log_beta(prior)


def _enumerated():
    k, m = np.arange(7)[:, None], np.arange(6)
    masses = stats.hypergeom(20, 8, 6).pmf(k) * stats.betabinom(5, 2.0, 3.0).pmf(m)
    masses = masses * stats.logistic(k + m, 0.5).pdf(4.2)
    return (masses * k).sum() / masses.sum(), math.log(masses.sum())


#: Model, what is taken of a trace, mean of that and log evidence.
CASES = {
    "overdispersed": (overdispersed, lambda trace: trace["mean"], _quadrature_of_counts),
    "robust": (robust, lambda trace: trace["loc"], _quadrature_of_location),
    "shares": (shares, lambda trace: trace["w"][0], _conjugate),
    "urn": (urn, lambda trace: float(trace["k"]), _enumerated),
}
CASE = pytest.mark.parametrize("name", CASES)


def check(posterior, name):
    _, chosen, exact = CASES[name]
    numbers = posterior.map(chosen)
    mean, _ = exact()
    assert abs(float(numbers.mean) - mean) < 4.0 * float(numbers.standard_error)


@CASE
@pytest.mark.parametrize("backend", ["host", "jax"])
def test_importance_sampling(name, backend):
    number = 4_000 if backend == "host" else 10_000
    posterior = ppl.importance_sampling(CASES[name][0], num_traces=number, seed=3, backend=backend, **QUIET)
    check(posterior, name)
    weights = np.exp(posterior.log_weights - posterior.log_weights.max())
    error = weights.std() / weights.mean() / math.sqrt(number)
    assert abs(posterior.log_evidence - CASES[name][2]()[1]) < 4.0 * error


@CASE
def test_random_walk(name):
    posterior = ppl.metropolis_hastings(CASES[name][0], num_traces=4_000, burn_in=500, seed=4, **QUIET)
    check(posterior, name)


@pytest.mark.parametrize("name", ["overdispersed", "shares", pytest.param("robust", marks=pytest.mark.slow)])
@pytest.mark.filterwarnings("error:JAX does not compute:RuntimeWarning")
def test_nuts(name):
    posterior = ppl.nuts(CASES[name][0], num_traces=1_500, burn_in=400, seed=5, **QUIET)
    check(posterior, name)
