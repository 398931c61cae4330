"""The families that users know from numpyro and scipy: extremes, moments, and those whose values are vectors.

Exact values are mpmath's, or enumerated. Tolerances of draws follow from significance 1e-4 with fixed seeds.
"""

import itertools
import math

import jax
import jax.numpy as jnp
import mpmath as mp
import numpy as np
import numpyro.distributions as npd
import pytest
from scipy import stats
from scipy_twins import agree

from ppl_jax import distributions as d
from ppl_jax.distributions.device import draw
from ppl_jax.distributions.from_numpyro import NumpyroDistribution, from_numpyro
from ppl_jax.distributions.layouts import rebuild
from ppl_jax.errors import ParameterError
from ppl_jax.streams import Stream

INF, NAN = float("inf"), float("nan")


def _negative_binomial(k, m, r):
    with mp.workdps(350):
        k, m, r = mp.mpf(k), mp.mpf(m), mp.mpf(r)
        rising = mp.loggamma(k + r) - mp.loggamma(r) - mp.loggamma(k + 1)
        return float(rising + (k * mp.log(m / (m + r)) if k else 0) + r * mp.log(r / (m + r)))


@pytest.mark.parametrize("concentration", [1e-3, 0.5, 15.99, 16.0, 1e4, 1e8, 1e12, 1e15, 1e300])
def test_a_negative_binomial_keeps_its_digits_whatever_its_concentration(concentration):
    """A difference of log-gammas is wrong by 1e-3 at a concentration of 1e12."""
    counts = np.array([0.0, 1.0, 3.0, 10.0, 200.0])
    for mean in (1e-9, 3.0, 250.0):
        family = d.NegativeBinomial2(mean, concentration)
        expected = [_negative_binomial(k, mean, concentration) for k in counts]
        assert agree(family.log_prob(counts), expected, 1e-11)
        assert agree([family.log_prob(k) for k in counts], expected, 1e-11)


def test_in_float32_a_large_concentration_costs_no_digits():
    """numpyro's own class is wrong by 0.1 here."""
    counts = np.array([80.0, 100.0, 130.0])
    expected = [_negative_binomial(k, 100.0, 1e6) for k in counts]
    found = jax.jit(lambda r: d.NegativeBinomial2(100.0, r).log_prob(counts))(1e6)
    assert agree(found, expected, 1e-4)
    with mp.workdps(40):
        exact = [float(_beta_binomial(k, 1e5, 2e5, 200)) for k in (50, 66, 80)]
    found = jax.jit(lambda a: d.BetaBinomial(a, 2e5, 200.0).log_prob(np.array([50.0, 66.0, 80.0])))(1e5)
    assert agree(found, exact, 2e-3)  # of terms of size 2000, in float32


def _beta_binomial(k, a, b, n):
    a, b = mp.mpf(a), mp.mpf(b)
    beta = mp.loggamma(k + a) + mp.loggamma(n - k + b) - mp.loggamma(n + a + b)
    return mp.log(mp.binomial(n, k)) + beta - mp.loggamma(a) - mp.loggamma(b) + mp.loggamma(a + b)


@pytest.mark.parametrize(("a", "b"), [(1e8, 3e8), (1e12, 1e12), (0.3, 1e10)])
def test_a_beta_binomial_of_large_concentrations_is_all_but_a_binomial(a, b):
    with mp.workdps(60):
        expected = [float(_beta_binomial(k, a, b, 50)) for k in range(0, 51, 10)]
    family = d.BetaBinomial(a, b, 50)
    assert agree(family.log_prob(np.arange(0, 51, 10)), expected, 1e-10)
    assert agree([family.log_prob(k) for k in range(0, 51, 10)], expected, 1e-10)


def test_a_hypergeometric_of_billions_keeps_its_digits():
    with mp.workdps(40):
        ways = mp.binomial(2**20, 2**10) * mp.binomial(2**31 - 2**20, 2**21 - 2**10)
        exact = mp.log(ways / mp.binomial(2**31, 2**21))
    assert agree(d.Hypergeometric(2**31, 2**20, 2**21).log_prob(2**10), float(exact), 1e-11)


def test_a_student_t_of_many_degrees_of_freedom_is_normal():
    with mp.workdps(50):
        for df in (1e3, 1e8, 1e14):
            half = mp.mpf(df) / 2
            norm = mp.loggamma(half + 0.5) - mp.loggamma(half) - mp.log(mp.pi * df) / 2
            expected = float(norm - (half + 0.5) * mp.log1p(mp.mpf(4) / df))
            assert agree(d.StudentT(df).log_prob(2.0), expected, 1e-12)
            assert agree(jax.jit(lambda df: d.StudentT(df).log_prob(2.0))(df), expected, 1e-5)


def test_parametrisations_of_the_negative_binomial():
    by_trials, by_mean = d.NegativeBinomial(4.0, 0.75), d.NegativeBinomial2(12.0, 4.0)
    counts = np.arange(60)
    assert agree(by_trials.log_prob(counts), by_mean.log_prob(counts), 1e-12)
    assert (by_trials.mean, by_trials.variance) == (by_mean.mean, by_mean.variance) == (12.0, 48.0)
    assert d.NegativeBinomial(4.0, logits=math.log(3.0)).probs == pytest.approx(0.75, rel=1e-15)
    for wrong in ({}, {"probs": 0.5, "logits": 0.0}):
        with pytest.raises(ParameterError, match="'logits' in its place"):
            d.NegativeBinomial(4.0, **wrong)


@pytest.mark.parametrize("logits", [-800.0, -30.0, 0.3, 40.0, 800.0])
def test_log_odds_keep_what_a_probability_cannot_say(logits, x64):
    """Host and device against mpmath; slopes too, which are k - (k + r) p and 1 - (1 + k) p."""
    with mp.workdps(400):
        odds = mp.exp(mp.mpf(logits))
        p, q = odds / (1 + odds), 1 / (1 + odds)
        slope = float(3 - (3 + mp.mpf(4.5)) * p), float(1 - 4 * p)
        rising = mp.loggamma(3 + mp.mpf(4.5)) - mp.loggamma(4.5) - mp.log(6)
        expected = float(rising + 3 * mp.log(p) + 4.5 * mp.log(q)), float(mp.log(p) + 3 * mp.log(q))
    for k, family in enumerate((lambda x: d.NegativeBinomial(4.5, logits=x), lambda x: d.Geometric(logits=x))):
        assert agree(family(logits).log_prob(3), expected[k], 1e-12)
        assert agree(family([logits, logits]).log_prob([3, 3]), [expected[k]] * 2, 1e-12)
        assert agree(jax.jit(lambda x, f=family: f(x).log_prob(3))(logits), expected[k], 1e-9)
        assert agree(jax.grad(lambda x, f=family: f(x).log_prob(3))(logits), slope[k], 1e-9)
        assert 0.0 < family(logits).probs < 1.0 and family(logits).log_prob(0.5) == -INF


def test_moments_where_they_exist():
    """Against mpmath's integrals; NaN where there is none, infinite where the integral diverges."""
    for df in (2.5, 4.0, 30.0):
        assert agree(d.StudentT(df, 1.0, 2.0).variance, 4.0 * df / (df - 2.0), 1e-12)
    assert d.StudentT(1.5, 3.0, 2.0).mean == 3.0 and d.StudentT(1.5, 3.0, 2.0).variance == INF
    assert math.isnan(d.StudentT(1.0).mean) and math.isnan(d.StudentT(1.0).variance)
    assert math.isnan(d.Cauchy().mean) and math.isnan(d.Cauchy(0.0, 2.0).variance)
    assert d.HalfCauchy(2.0).mean == d.HalfCauchy(2.0).variance == INF
    assert d.InverseGamma(0.9).mean == INF and d.InverseGamma(1.9, 3.0).variance == INF
    assert d.Pareto(2.0, 1.0).mean == INF and d.Pareto(2.0, 2.0).variance == INF
    for family, low in ((d.InverseGamma(4.5, 3.0), 0), (d.Pareto(2.0, 5.5), 2)):
        moments = [mp.quad(lambda x, n=n, f=family: x**n * mp.exp(f.log_prob(float(x))), [low, 4, 50, mp.inf])
                   for n in (1, 2)]  # fmt: skip
        assert agree(family.mean, float(moments[0]), 1e-6)
        assert agree(family.variance, float(moments[1] - moments[0] ** 2), 1e-6)
    assert d.NegativeBinomial2(3.0, 0.5).variance == 21.0
    assert d.StudentT(np.array([0.5, 1.5, 4.0])).variance.tolist()[1:] == [INF, 2.0]


ZERO_INFLATED = [(0.3, 4.0), (0.0, 2.0), (1.0, 2.0), (0.5, 0.0), (0.0, 1000.0)]


@pytest.mark.parametrize(("gate", "rate"), ZERO_INFLATED)
def test_zero_inflated_poisson(gate, rate, x64):
    family, counts = d.ZeroInflatedPoisson(gate, rate), np.arange(2000)
    masses = (1.0 - gate) * stats.poisson(rate).pmf(counts)
    masses[0] += gate
    with np.errstate(divide="ignore"):
        expected = np.where(counts == 0, np.logaddexp(np.log(gate), np.log1p(-gate) - rate), np.log(masses))
    plausible = (masses > 1e-300) | (counts == 0)
    assert agree(family.log_prob(counts)[plausible], expected[plausible], 1e-9)
    assert agree([family.log_prob(float(k)) for k in counts[:40]], family.log_prob(counts[:40]), 1e-12)
    assert agree(jax.jit(family.log_prob)(counts), family.log_prob(counts), 1e-9)
    assert agree([family.mean, family.variance], [masses @ counts, masses @ counts**2 - (masses @ counts) ** 2], 1e-9)
    assert [family.log_prob(value) for value in (-1.0, 0.5, NAN, INF)] == [-INF] * 4
    rng = Stream(11)
    draws = np.array([family.sample(rng) for _ in range(4000)])
    assert stats.binomtest(int((draws == 0).sum()), 4000, min(float(np.exp(expected[0])), 1.0)).pvalue > 1e-4


# -- vectors -----------------------------------------------------------------------------------------------------------

DIRICHLETS = [[1.0, 1.0], [0.5, 2.0, 3.0], [0.01, 0.02, 0.03], [100.0, 50.0, 1.0, 0.5], [1.0]]


@pytest.mark.parametrize("concentration", DIRICHLETS, ids=str)
def test_dirichlet(concentration, x64):
    family, rng = d.Dirichlet(concentration), Stream(12)
    draws = np.array([family.sample(rng) for _ in range(5000)])
    assert (draws > 0.0).all() and np.abs(draws.sum(axis=1) - 1.0).max() < 1e-12
    if len(concentration) > 1:
        a = np.array(concentration)
        expected = stats.dirichlet(a).logpdf((draws[:50] / draws[:50].sum(axis=1, keepdims=True)).T)
        assert agree(family.log_prob(draws[:50]), expected)
        for k in range(len(a) if a.min() > 0.1 else 0):  # every element is beta distributed
            law = stats.beta(a[k], a.sum() - a[k])
            column = draws[:, k][draws[:, k] > 1e-300]
            below = law.cdf(1e-300)
            p_value = stats.kstest(column, lambda x, law=law, below=below: (law.cdf(x) - below) / (1 - below)).pvalue
            assert p_value > 1e-4
    assert agree(family.log_prob(draws[0]), family.log_prob(draws[:1])[0], 1e-12)
    assert agree(jax.jit(family.log_prob)(draws[:50]), family.log_prob(draws[:50]))
    assert agree(family.mean, np.array(concentration) / np.sum(concentration), 1e-12)
    # Four standard errors of a mean of 5000 draws.
    assert np.all(np.abs(draws.mean(axis=0) - family.mean) <= 4.0 * family.stddev / math.sqrt(5000) + 1e-12)


def test_dirichlet_at_the_edges_and_outside(x64):
    cases = [
        ([1.0, 1.0, 1.0], [0.0, 0.5, 0.5], math.log(2.0)), ([2.0, 1.0], [0.0, 1.0], -INF),
        ([0.5, 1.0], [0.0, 1.0], INF), ([0.5, 2.0, 1.0], [0.0, 0.0, 1.0], -INF), ([1.0, 1.0], [0.6, 0.6], -INF),
        ([1.0, 1.0], [-0.1, 1.1], -INF), ([1.0, 1.0], [NAN, 0.5], -INF), ([1.0, 1.0], [INF, 0.0], -INF),
    ]  # fmt: skip
    for concentration, value, expected in cases:
        family = d.Dirichlet(concentration)
        assert agree(family.log_prob(np.array(value)), expected, 1e-12)
        assert agree(jax.jit(family.log_prob)(np.array(value)), expected, 1e-12)
    slope = jax.grad(lambda a: d.Dirichlet(a).log_prob(jnp.array([0.0, 0.4, 0.6])))(jnp.array([1.0, 2.0, 3.0]))
    assert np.isfinite(slope[1:]).all()
    batch = d.Dirichlet([[1.0, 2.0], [3.0, 4.0]])
    assert batch.sample(Stream(1)).shape == (2, 2) and batch.log_prob([0.3, 0.7]).shape == (2,)


def test_dirichlet_of_vanishing_concentrations_stays_inside():
    rng = Stream(13)
    for concentration in (5e-324, 1e-300, 1e-3):
        for _ in range(50):
            value = d.Dirichlet([concentration] * 3).sample(rng)
            assert np.isfinite(value).all() and (value > 0.0).all() and abs(value.sum() - 1.0) < 1e-12


@pytest.mark.parametrize("probs", [[0.2, 0.3, 0.5], [0.0, 1.0], [1.0], [0.7, 0.0, 0.3]], ids=str)
def test_multinomial(probs, x64):
    """All outcomes enumerated."""
    family, rng = d.Multinomial(4, probs), Stream(14)
    outcomes = [k for k in itertools.product(range(5), repeat=len(probs)) if sum(k) == 4]
    expected = np.array([math.factorial(4) * math.prod(p**n / math.factorial(n) for p, n in zip(probs, k, strict=True))
                         for k in outcomes])  # fmt: skip
    assert abs(expected.sum() - 1.0) < 1e-12
    with np.errstate(divide="ignore"):
        assert agree(family.log_prob(outcomes), np.log(expected), 1e-12)
        assert agree(jax.jit(family.log_prob)(np.array(outcomes)), np.log(expected), 1e-12)
    found = dict.fromkeys(outcomes, 0)
    for _ in range(4000):
        found[tuple(family.sample(rng).tolist())] += 1
    possible = expected > 0.0
    counts = np.array(list(found.values()))
    assert (counts[~possible] == 0).all()
    if possible.sum() > 1:
        assert stats.chisquare(counts[possible], expected[possible] * 4000).pvalue > 1e-4
    moments = expected @ np.array(outcomes), expected @ np.array(outcomes) ** 2
    assert agree(family.mean, moments[0], 1e-12) and agree(family.variance, moments[1] - moments[0] ** 2, 1e-9)
    outside = np.array([[5] + [0] * (len(probs) - 1), [-1] + [0] * (len(probs) - 1)])
    assert family.log_prob(outside).tolist() == [-INF, -INF]
    assert np.asarray(jax.jit(family.log_prob)(outside)).tolist() == [-INF, -INF]


def test_multinomial_draws_of_any_size_add_up():
    rng = Stream(15)
    for count, probs in ((2**53, [0.2, 0.3, 0.5]), (1000, np.full(64, 1 / 64)), (0, [0.5, 0.5]), (7, [1e-300, 1.0])):
        assert d.Multinomial(count, probs).sample(rng).sum() == count
    assert d.Multinomial([3, 50], [0.5, 0.5]).sample(rng).sum(axis=-1).tolist() == [3, 50]


DEVICE_DRAWS = [
    d.NegativeBinomial(3.0, 0.4), d.NegativeBinomial2(5.0, 0.7), d.BetaBinomial(2.0, 3.0, 15.0), d.Geometric(0.3),
    d.Hypergeometric(60.0, 25.0, 20.0), d.Hypergeometric(5.0, 5.0, 3.0), d.ZeroInflatedPoisson(0.3, 4.0),
    d.StudentT(5.0, 1.0, 2.0), d.HalfNormal(2.0), d.Laplace(1.0, 2.0), d.Logistic(1.0, 2.0), d.Gumbel(1.0, 2.0),
    d.InverseGamma(5.0, 3.0), d.Pareto(1.0, 6.0), d.Dirichlet([1.0, 2.0, 3.0]), d.Multinomial(20, [0.2, 0.3, 0.5]),
]  # fmt: skip


@pytest.mark.parametrize("distribution", DEVICE_DRAWS, ids=repr)
def test_device_draws_have_the_moments(distribution):
    """Means of 4000 draws within five standard errors; all within the support."""
    keys = jax.random.split(jax.random.key(3), 4000)
    draws = np.asarray(jax.jit(jax.vmap(lambda key: draw(distribution, key)))(keys), np.float64)
    assert draws.shape == (4000, *distribution.shape)
    assert np.all(np.abs(draws.mean(axis=0) - distribution.mean) <= 5.0 * distribution.stddev / math.sqrt(4000) + 1e-9)
    assert np.isfinite(distribution.log_prob(draws)).all()


def test_device_draws_of_traced_counts():
    @jax.jit
    def drawn(key, n):
        return draw(d.Hypergeometric(n, 4.0, 3.0), key), draw(d.Multinomial(n, [0.5, 0.5]), key)

    few, counts = drawn(jax.random.key(1), 9.0)
    assert 0 <= few <= 3 and counts.sum() == 9


# -- gradients ---------------------------------------------------------------------------------------------------------

EDGES = [
    (lambda m: d.NegativeBinomial2(m, 2.0).log_prob(0), 0.0, -1.0),
    (lambda m: d.NegativeBinomial2(m, 20.0).log_prob(0), 0.0, -1.0),
    (lambda m: d.NegativeBinomial2(m, 2.0).log_prob(3), 2.0, 0.25),
    (lambda p: d.NegativeBinomial(3.0, p).log_prob(0), 0.0, -3.0),
    (lambda p: d.Geometric(p).log_prob(0), 1.0, 1.0),
    (lambda g: d.ZeroInflatedPoisson(g, 3.0).log_prob(0), 1.0, 1.0 - math.exp(-3.0)),
    (lambda g: d.ZeroInflatedPoisson(g, 3.0).log_prob(2), 0.0, -1.0),
    (lambda r: d.ZeroInflatedPoisson(0.0, r).log_prob(0), 0.0, -1.0),
    (lambda x: d.HalfNormal(2.0).log_prob(x), 0.0, 0.0),
    (lambda x: d.HalfCauchy(2.0).log_prob(x), 0.0, 0.0),
    (lambda x: d.Cauchy(0.0, 1.0).log_prob(x), 1e25, -2e-25),
    (lambda x: d.StudentT(3.0, 0.0, 1.0).log_prob(x), 1e25, -4e-25),
    (lambda x: d.Pareto(2.0, 3.0).log_prob(x), 2.0, -2.0),
    (lambda x: d.Gumbel(0.0, 1.0).log_prob(x), -1.0, math.e - 1.0),
    (lambda s: d.Laplace(0.0, s).log_prob(0.0), 2.0, -0.5),
    (lambda p: d.Multinomial(3, jnp.stack([p, 1.0 - p])).log_prob(jnp.array([0, 3])), 0.0, -3.0),
]


@pytest.mark.parametrize("number", range(len(EDGES)))
@pytest.mark.parametrize("wide", [False, True], ids=["float32", "float64"])
def test_gradients_at_the_edges(number, wide):
    density, where, expected = EDGES[number]
    with jax.enable_x64(wide):
        slope = float(jax.jit(jax.grad(density))(jnp.asarray(where, jnp.result_type(float))))
    assert math.isclose(slope, expected, rel_tol=1e-5, abs_tol=1e-6)


# -- numpyro's classes -------------------------------------------------------------------------------------------------

RECOGNISED = [
    (npd.NegativeBinomial(3.0, probs=0.25), d.NegativeBinomial(3.0, 0.25)),
    (npd.NegativeBinomial(3.0, logits=0.0), d.NegativeBinomial(3.0, 0.5)),
    (npd.NegativeBinomial(3.0, logits=0.0).expand([2]), d.NegativeBinomial([3.0, 3.0], 0.5)),
    (npd.Geometric(logits=0.0).expand([2]), d.Geometric([0.5, 0.5])),
    (npd.NegativeBinomial2(4.0, 0.5), d.NegativeBinomial2(4.0, 0.5)),
    (npd.GammaPoisson(2.0, 0.5), d.NegativeBinomial2(4.0, 2.0)),
    (npd.BetaBinomial(2.0, 3.0, 10), d.BetaBinomial(2.0, 3.0, 10)),
    (npd.StudentT(3.0, 1.0, 2.0), d.StudentT(3.0, 1.0, 2.0)),
    (npd.Cauchy(1.0, 2.0), d.Cauchy(1.0, 2.0)),
    (npd.HalfCauchy(2.0), d.HalfCauchy(2.0)),
    (npd.HalfNormal(2.0), d.HalfNormal(2.0)),
    (npd.Laplace(1.0, 2.0), d.Laplace(1.0, 2.0)),
    (npd.Logistic(1.0, 2.0), d.Logistic(1.0, 2.0)),
    (npd.Gumbel(1.0, 2.0), d.Gumbel(1.0, 2.0)),
    (npd.InverseGamma(3.0, 2.0), d.InverseGamma(3.0, 2.0)),
    (npd.Pareto(1.0, 2.0), d.Pareto(1.0, 2.0)),
    (npd.Chi2(3.0), d.Gamma(1.5, 0.5)),
    (npd.Geometric(0.25), d.Geometric(0.25)),
    (npd.Geometric(logits=0.0), d.Geometric(0.5)),
    (npd.ZeroInflatedPoisson(0.25, 3.0), d.ZeroInflatedPoisson(0.25, 3.0)),
    (npd.Dirichlet(jnp.array([1.0, 2.0])), d.Dirichlet([1.0, 2.0])),
    (npd.Dirichlet(jnp.array([1.0, 2.0])).expand([3]), d.Dirichlet([[1.0, 2.0]] * 3)),
    (npd.Multinomial(5, probs=jnp.array([0.25, 0.75])), d.Multinomial(5, [0.25, 0.75])),
    (npd.Multinomial(5, logits=jnp.zeros(4)), d.Multinomial(5, [0.25] * 4)),
    (npd.Multinomial(5, probs=jnp.array([0.25, 0.75])).expand([2]), d.Multinomial([5, 5], [0.25, 0.75])),
    (npd.StudentT(3.0).expand([2]).to_event(1), d.StudentT([3.0, 3.0])),
    (npd.HalfNormal(jnp.array([1.0, 2.0])), d.HalfNormal([1.0, 2.0])),
]


@pytest.mark.parametrize(("theirs", "ours"), RECOGNISED, ids=[repr(ours) for _, ours in RECOGNISED])
def test_numpyros_class_is_ours(theirs, ours):
    found = from_numpyro(theirs)
    assert type(found) is type(ours) and found.shape == ours.shape
    assert agree(found.numbers(), ours.numbers() if found.layout() == ours.layout() else found.numbers(), 1e-6)
    value = ours.sample(Stream(16))
    assert agree(np.sum(found.log_prob(value)), np.sum(np.asarray(theirs.log_prob(value))), 1e-4)
    again = from_numpyro(ours.to_numpyro()) if type(ours) is not d.Hypergeometric else ours
    assert type(again) is type(ours) and not isinstance(again, NumpyroDistribution)


def test_what_was_stored_before_the_families_were_ours_can_be_read():
    earlier = rebuild(("numpyro.StudentT(df,loc,scale)", (), (), ()), [3.0, 1.0, 2.0])
    assert isinstance(earlier, NumpyroDistribution)
    assert agree(earlier.log_prob(0.5), d.StudentT(3.0, 1.0, 2.0).log_prob(0.5))
