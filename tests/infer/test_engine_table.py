"""A table: every engine and backend on every public family as a latent, against posteriors by quadrature.

A case is a latent whose number (itself, or its first element) has a known distribution, scipy's, and is observed with a
normal error. scipy's quantile function at the midpoints of N equal intervals turns expectations under the prior into
means of N terms, of counts as of real numbers; N is such that their error is far below the engines'.

The tolerance is 4.5 standard errors as the posterior states them, of runs with fixed seeds: of 500 comparisons one is
further off in 300 seeds. Each standard error must itself be small beside the posterior's width. Of a normal prior the
datum moves the mean by 0.53 posterior deviations (0.24 where its error is three times as wide), so that 0.11 (0.05) of
one are enough to tell the posterior from the prior. Engines on the host run each family by itself; those on JAX, where
compiling is what costs time, all families in one program.
"""

import functools
import math

import numpy as np
import pytest
from scipy import stats

import ppl_jax as ppl
import ppl_jax.distributions as dist

QUIET = {"progress": False}
TERMS = 20_001  # of a quadrature
ERRORS = 4.5
NO_LATENTS = {"Distribution", "Factor"}  # the base class, and what has no value


def plain(*parts):
    """A mixture of scipy's distributions and numbers, as pairs (probability, part)."""
    return parts


def only(part):
    return ((1.0, part),)


class ByDensity:
    """What has a density on an interval (up to a factor), and a slow quantile function in scipy or none."""

    def __init__(self, density, low, high):
        edges = np.linspace(low, high, 100_001)
        mass = density(0.5 * (edges[1:] + edges[:-1]))
        self.edges, self.below = edges, np.concatenate([[0.0], np.cumsum(mass) / mass.sum()])

    def ppf(self, q):
        return np.interp(q, self.below, self.edges)


#: Name of a family -> distribution, and the known distribution of its number. Families with atoms are mixtures.
CASES = {
    "Bernoulli": (dist.Bernoulli(0.3), plain((0.7, 0.0), (0.3, 1.0))),
    "Beta": (dist.Beta(2.0, 3.0), only(stats.beta(2.0, 3.0))),
    "BetaBinomial": (
        dist.BetaBinomial(2.0, 3.0, 5),
        plain(*((stats.betabinom(5, 2.0, 3.0).pmf(k), float(k)) for k in range(6))),
    ),
    "Binomial": (dist.Binomial(10, 0.3), only(stats.binom(10, 0.3))),
    "Categorical": (dist.Categorical([0.2, 0.3, 0.5]), plain((0.2, 0.0), (0.3, 1.0), (0.5, 2.0))),
    "Cauchy": (dist.Cauchy(1.0, 0.5), only(stats.cauchy(1.0, 0.5))),
    "Delta": (dist.Delta(1.5), only(1.5)),
    "Dirichlet": (dist.Dirichlet([1.0, 2.0, 3.0]), only(stats.beta(1.0, 5.0))),
    "Exponential": (dist.Exponential(0.5), only(stats.expon(scale=2.0))),
    "Gamma": (dist.Gamma(2.0, 3.0), only(stats.gamma(2.0, scale=1.0 / 3.0))),
    "Geometric": (dist.Geometric(0.3), only(stats.geom(0.3, loc=-1))),
    "Gumbel": (dist.Gumbel(1.0, 2.0), only(stats.gumbel_r(1.0, 2.0))),
    "HalfCauchy": (dist.HalfCauchy(2.0), only(stats.halfcauchy(scale=2.0))),
    "HalfNormal": (dist.HalfNormal(2.0), only(stats.halfnorm(scale=2.0))),
    "Hypergeometric": (dist.Hypergeometric(20, 8, 6), only(stats.hypergeom(20, 8, 6))),
    "InverseGamma": (dist.InverseGamma(3.0, 2.0), only(stats.invgamma(3.0, scale=2.0))),
    "Laplace": (dist.Laplace(1.0, 2.0), only(stats.laplace(1.0, 2.0))),
    "LogNormal": (dist.LogNormal(0.5, 0.6), only(stats.lognorm(0.6, scale=math.exp(0.5)))),
    "Logistic": (dist.Logistic(1.0, 0.5), only(stats.logistic(1.0, 0.5))),
    "Mixture": (
        dist.Mixture([0.4, 0.6], [dist.Normal(-1.0, 1.0), dist.Normal(2.0, 0.7)]),
        plain((0.4, stats.norm(-1.0, 1.0)), (0.6, stats.norm(2.0, 0.7))),
    ),
    "Multinomial": (dist.Multinomial(10, [0.2, 0.3, 0.5]), only(stats.binom(10, 0.2))),
    "MultivariateNormal": (
        dist.MultivariateNormal(np.array([1.0, -1.0]), np.array([[2.0, 0.0], [0.5, 1.0]])),
        only(stats.norm(1.0, 2.0)),
    ),
    "NegativeBinomial": (dist.NegativeBinomial(3.0, 0.4), only(stats.nbinom(3.0, 0.6))),
    "NegativeBinomial2": (dist.NegativeBinomial2(4.0, 2.0), only(stats.nbinom(2.0, 2.0 / 6.0))),
    "Normal": (dist.Normal(1.0, 2.0), only(stats.norm(1.0, 2.0))),
    "Pareto": (dist.Pareto(1.5, 3.0), only(stats.pareto(3.0, scale=1.5))),
    "Poisson": (dist.Poisson(3.0), only(stats.poisson(3.0))),
    "StudentT": (dist.StudentT(3.0, 1.0, 2.0), only(stats.t(3.0, 1.0, 2.0))),
    "TruncatedNormal": (dist.TruncatedNormal(1.0, 2.0, 0.0, 3.0), only(stats.truncnorm(-0.5, 1.0, 1.0, 2.0))),
    "Uniform": (dist.Uniform(-1.0, 2.0), only(stats.uniform(-1.0, 3.0))),
    "VonMises": (dist.VonMises(0.5, 2.0), only(ByDensity(stats.vonmises(2.0, 0.5).pdf, -math.pi, math.pi))),
    "Weibull": (dist.Weibull(2.0, 1.5), only(stats.weibull_min(1.5, scale=2.0))),
    "ZeroInflatedPoisson": (dist.ZeroInflatedPoisson(0.3, 4.0), plain((0.3, 0.0), (0.7, stats.poisson(4.0)))),
}

#: The same at the edges of the parameters.
EDGES = {
    "Bernoulli, certain": (dist.Bernoulli(1.0), only(1.0)),
    "Beta, infinite at both ends": (dist.Beta(0.5, 0.5), only(stats.beta(0.5, 0.5))),
    "Binomial, certain": (dist.Binomial(4, 1.0), only(4.0)),
    "Categorical, impossible first": (dist.Categorical([0.0, 0.4, 0.6]), plain((0.4, 1.0), (0.6, 2.0))),
    "Gamma, infinite at 0": (dist.Gamma(0.5, 1.0), only(stats.gamma(0.5))),
    "Poisson, of rate 0": (dist.Poisson(0.0), only(0.0)),
    "TruncatedNormal, nine deviations out": (
        dist.TruncatedNormal(0.0, 1.0, 9.0, math.inf),
        only(ByDensity(stats.norm().pdf, 9.0, 11.0)),
    ),
    "Weibull, infinite at 0": (dist.Weibull(2.0, 0.7), only(stats.weibull_min(0.7, scale=2.0))),
}

TABLE = CASES | EDGES


def first(value):
    """The number of a case: a scalar itself, of a vector the first element."""
    return value if np.ndim(value) == 0 else value[0]


@functools.cache
def quadrature(name):
    """Probabilities and values of the number of a case, (n,) each."""
    probabilities, values = [], []
    for share, part in TABLE[name][1]:
        terms = 1 if isinstance(part, float) else TERMS
        points = [part] if isinstance(part, float) else part.ppf((np.arange(terms) + 0.5) / terms)
        values.append(points)
        probabilities.append(np.full(terms, share / terms))
    return np.concatenate(probabilities), np.concatenate(values)


@functools.cache
def datum(name, width):
    """What is observed of a case, and its standard error: ``width`` times that of a normal with the same deciles."""
    probabilities, values = quadrature(name)
    order = np.argsort(values)
    low, middle, high = np.interp([0.1, 0.5, 0.9], np.cumsum(probabilities[order]), values[order])
    spread = max((high - low) / 2.56, 1.0 if TABLE[name][0].discrete else 0.25)
    return float(middle + 0.75 * width * spread), float(width * spread)


def exact(name, width):
    """Mean and standard deviation of the number given the datum."""
    probabilities, values = quadrature(name)
    y, error = datum(name, width)
    weights = probabilities * np.exp(-0.5 * ((y - values) / error) ** 2)
    weights /= weights.sum()
    mean = weights @ values
    return mean, math.sqrt(max(0.0, weights @ (values - mean) ** 2))


def prior_moments(name):
    """Mean and deviation of a bounded function of the number, which families without moments have too."""
    probabilities, values = quadrature(name)
    bounded = np.tanh(values)
    mean = probabilities @ bounded
    return mean, math.sqrt(max(0.0, probabilities @ (bounded - mean) ** 2))


def program(names, width, given=True):
    """A program of independent latents, each observed; it has the data itself where they are ``given``."""

    def model():
        for name in names:
            number = first(ppl.sample(TABLE[name][0], name=name))
            y, error = datum(name, width)
            ppl.observe(dist.Normal(number, error), y if given else None, name=f"{name} seen")

    return model


def judge(posterior, name, width, share=0.11):
    """Compares the posterior mean; ``share`` of the posterior's width is the greatest standard error that passes."""
    column = posterior.map(name)
    found, error = first(column.mean), first(column.standard_error)
    mean, stddev = exact(name, width)
    rounding = 1e-15 * len(posterior) * (1.0 + abs(mean))  # of a value that is certain
    assert error <= share * stddev + rounding
    # The quadrature is off by at most a few parts in TERMS of the width.
    assert abs(found - mean) <= ERRORS * error + 5e-4 * stddev + 1e-6, (found, mean, error)


def test_every_public_family_is_in_the_table():
    families = {name for name in dist.__all__ if isinstance(getattr(dist, name), type)} - NO_LATENTS
    missing = families - CASES.keys()
    assert not missing, f"add an entry to CASES, with scipy's distribution of the number, for {sorted(missing)}"
    assert not CASES.keys() - families, "CASES names families that are not public"


# -- on the host, a family at a time -----------------------------------------------------------------------------------

ENGINES = {
    "importance sampling": lambda model, n: ppl.importance_sampling(model, num_traces=n, seed=1, **QUIET),
    "lightweight": lambda model, n: ppl.metropolis_hastings(
        model, num_traces=n, burn_in=100, kernel="lightweight", seed=2, **QUIET
    ),
    "random walk": lambda model, n: ppl.metropolis_hastings(model, num_traces=n, burn_in=300, seed=3, **QUIET),
    "smc": lambda model, n: ppl.smc(model, num_traces=n, seed=4, **QUIET),
}


@pytest.mark.parametrize("name", TABLE)
def test_prior(name):
    run = ppl.prior(lambda: ppl.sample(TABLE[name][0], name=name), 1000, seed=5, **QUIET)
    found = np.tanh([float(first(value)) for value in run.map(name).values])
    mean, stddev = prior_moments(name)
    assert abs(found.mean() - mean) <= ERRORS * stddev / math.sqrt(1000) + 5e-4 * stddev + 1e-9


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", TABLE)
def test_host(name, engine):
    judge(ENGINES[engine](program([name], 1.0), 1000), name, 1.0)


@pytest.mark.slow
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", TABLE)
def test_host_with_ten_times_the_traces(name, engine):
    judge(ENGINES[engine](program([name], 1.0), 10_000), name, 1.0, share=0.05)


# -- on JAX, all families in one program -------------------------------------------------------------------------------


@functools.cache
def on_jax():
    """Data of three deviations each, so that the weights of all families together leave a part of the traces."""
    return ppl.importance_sampling(program(list(TABLE), 3.0), num_traces=30_000, backend="jax", seed=6, **QUIET)


@pytest.mark.parametrize("name", TABLE)
def test_importance_sampling_on_jax(name):
    judge(on_jax(), name, 3.0, share=0.05)


# -- by gradients, all continuous families in one program --------------------------------------------------------------

CONTINUOUS = [name for name, (family, _) in TABLE.items() if not family.discrete and not isinstance(family, dist.Delta)]


@functools.cache
def by_nuts():
    return ppl.nuts(program(CONTINUOUS, 1.0), num_traces=4000, burn_in=1000, target_accept=0.9, seed=7, **QUIET)


@pytest.mark.slow
@pytest.mark.parametrize("name", CONTINUOUS)
def test_nuts(name):
    judge(by_nuts(), name, 1.0)


# -- guided by a network, all families in one program ------------------------------------------------------------------


@functools.cache
def network():
    return ppl.train(program(list(TABLE), 3.0, given=False), 20_000, core="feedforward", seed=8, **QUIET)


@functools.cache
def guided(engine):
    model, data = program(list(TABLE), 3.0, given=False), {f"{name} seen": datum(name, 3.0)[0] for name in TABLE}
    given = {"proposal": network(), "seed": 9, **QUIET}
    if engine == "importance sampling":
        return ppl.importance_sampling(model, data, 20_000, **given)
    return ppl.metropolis_hastings(model, data, 20_000, num_chains=10, burn_in=100, **given)


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["importance sampling", "metropolis hastings"])
@pytest.mark.parametrize("name", TABLE)
def test_guided(name, engine):
    judge(guided(engine), name, 3.0)
