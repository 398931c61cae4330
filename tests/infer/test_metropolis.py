"""Metropolis-Hastings against exact posteriors, on programs of changing structure, and against its own prior."""

import math

import numpy as np
import pytest
from infer.scoped_programs import (
    HALF_MEAN,
    HALF_VARIANCE,
    half_marsaglia,
    marsaglia,
    truncated_with_mean,
    truncated_with_mean_posterior,
)
from programs import (
    BRANCHING_DATA,
    GUM_DATA,
    GUM_MEAN,
    GUM_STDDEV,
    HMM_DATA,
    RECURSION_DATA,
    SPRINKLER_DATA,
    branching,
    branching_posterior,
    gum,
    gum_marsaglia,
    hidden_markov,
    hidden_markov_posterior,
    recursion,
    recursion_posterior,
    sprinkler,
    sprinkler_posterior,
)
from scipy import stats

import ppl_jax as ppl
import ppl_jax.distributions as dist
from ppl_jax import handlers

KERNELS = ["lightweight", "random_walk"]


def standard_error(values, num_batches=40):
    """Monte Carlo standard error of a chain's mean, by batch means."""
    length = len(values) // num_batches
    means = np.reshape(np.asarray(values, dtype=float)[: length * num_batches], (num_batches, length)).mean(axis=1)
    return float(means.std(ddof=1) / np.sqrt(num_batches))


def agree(values, expected):
    """Whether a chain's mean is within Monte Carlo error (4.5 standard errors, about 1e-5 with 39 degrees)."""
    return abs(np.mean(values) - expected) < 4.5 * standard_error(values)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("model", [gum, gum_marsaglia])
def test_gaussian_with_unknown_mean(model, kernel):
    # The data lie three prior standard deviations out: proposals from the prior are accepted once in about 100 steps.
    number = 50_000 if kernel == "lightweight" else 12_000
    posterior = ppl.metropolis_hastings(model, GUM_DATA, number, kernel=kernel, burn_in=2000, seed=1, progress=False)
    values = np.asarray(posterior.map("mu").values)
    assert agree(values, GUM_MEAN)
    assert agree((values - GUM_MEAN) ** 2, GUM_STDDEV**2)


@pytest.mark.parametrize("kernel", KERNELS)
def test_discrete_network(kernel):
    exact, _ = sprinkler_posterior()
    posterior = ppl.metropolis_hastings(sprinkler, SPRINKLER_DATA, 10_000, kernel=kernel, seed=2, progress=False)
    assert agree(posterior.map("rain").values, exact)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize(
    ("model", "data", "exact"),
    [(recursion, RECURSION_DATA, recursion_posterior()), (branching, BRANCHING_DATA, branching_posterior())],
)
def test_changing_structure(model, data, exact, kernel):
    posterior = ppl.metropolis_hastings(model, data, 12_000, kernel=kernel, seed=3, progress=False)
    results = np.asarray(posterior.map(lambda trace: trace.result).values)
    for value in range(6):
        if exact[0][value] > 0.01:
            assert agree(results == value, exact[0][value]), value


def test_hidden_markov_model():
    marginals, _ = hidden_markov_posterior()
    posterior = ppl.metropolis_hastings(
        hidden_markov, HMM_DATA, 4000, num_chains=2, thinning=2, burn_in=500, seed=4, progress=False
    )
    states = np.asarray(posterior.map(lambda trace: trace.result).values)
    for step in range(16):
        for state in range(3):
            hits = states[:, step] == state
            assert abs(hits.mean() - marginals[step, state]) < 4.5 * standard_error(hits) + 1e-3, (step, state)


# -- "get it right": one step from the prior stays in the prior ------------------------------------------------------


def restless():
    """Changing structure, every kind of kernel, an uncontrolled draw, and parameters that depend on earlier draws."""
    width = ppl.sample(dist.Gamma(2.0, 1.0), name="width")
    nuisance = ppl.sample(dist.Bernoulli(0.5), name="nuisance", control=False)
    count = ppl.sample(dist.Poisson(1.5 + nuisance), name="count")
    total = 0.0
    for _ in range(count):
        total += ppl.sample(dist.Uniform(-width, width), name="u")
        if ppl.sample(dist.Bernoulli(0.3), name="more"):
            total += ppl.sample(dist.Normal(total, 1.0 + width), name="extra")
    angle = ppl.sample(dist.VonMises(0.3, 2.0), name="angle")
    share = ppl.sample(dist.Beta(2.0, 1.0 + count), name="share")
    kind = ppl.sample(dist.Categorical([0.2, 0.5, 0.3]), name="kind")
    bounded = ppl.sample(dist.TruncatedNormal(0.0, 1.0, -0.5, 2.0), name="bounded")
    ppl.observe(dist.Normal(total + width, 0.5 + nuisance), name="data")
    return width, count, total, angle, share, kind, bounded


@pytest.mark.parametrize("kernel", ["random_walk", pytest.param("lightweight", marks=pytest.mark.slow)])
def test_steps_leave_the_joint_distribution_invariant(kernel):
    """Data simulated with the latents make these a posterior draw: ten steps later they are one still, and averaged
    over the data posterior draws are prior draws (Geweke, "Getting it right", JASA 2004).
    """
    number = 1000
    start = ppl.prior(restless, number, seed=10, backend="host", progress=False)
    moved = []
    for index, trace in enumerate(start):
        chain = ppl.metropolis_hastings(
            restless, {"data": trace["data"]}, num_traces=1, kernel=kernel, burn_in=0, thinning=10,
            initial_trace=trace, seed=1000 + index, progress=False,
        )  # fmt: skip
        moved.append(chain[0].result)
    other = ppl.prior(restless, number, seed=11, backend="host", progress=False)
    independent = np.array([trace.result for trace in other])
    moved = np.array(moved)
    for column, name in enumerate(["width", "count", "total", "angle", "share", "kind", "bounded"]):
        if name in ("count", "kind"):
            values = np.union1d(moved[:, column], independent[:, column])
            values = [v for v in values if (moved[:, column] == v).sum() + (independent[:, column] == v).sum() >= 20]
            table = [[(side[:, column] == v).sum() for v in values] for side in (moved, independent)]
            p_value = stats.chi2_contingency(table).pvalue
        else:
            p_value = stats.ks_2samp(moved[:, column], independent[:, column]).pvalue
        assert p_value > 1e-3 / 7, (name, p_value)  # seven comparisons at a family-wise level of 0.1 %
    assert np.mean(np.any(moved != np.array([trace.result for trace in start]), axis=1)) > 0.9


def test_an_initial_trace_gives_uncontrolled_draws_too():
    def model():
        n = ppl.sample(dist.Normal(0.0, 1.0), name="n", control=False)
        return n, ppl.sample(dist.Normal(n, 1.0), name="x")

    met = []

    def spy():
        met.append(model())
        return met[-1]

    start = ppl.prior(spy, 1, seed=1, progress=False)[0]
    ppl.metropolis_hastings(spy, num_traces=1, burn_in=0, initial_trace=start, seed=2, progress=False)
    assert met[1] == start.result
    assert met[2][0] != start["n"]  # afterwards they are drawn afresh


# -- rejection scopes ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kernel", KERNELS)
def test_marsaglias_method_in_a_scope(kernel):
    """Half of the mean is drawn in a loop, afresh in every step; with the other half the posterior is that of GUM."""
    posterior = ppl.metropolis_hastings(half_marsaglia, GUM_DATA, 15_000, kernel=kernel, seed=1, progress=False)
    mu, a = np.asarray(posterior.map(lambda trace: trace.result).values), np.asarray(posterior.map("a").values)
    assert agree(mu, GUM_MEAN)
    assert agree((mu - GUM_MEAN) ** 2, GUM_STDDEV**2)
    assert agree(a, HALF_MEAN)
    assert agree((a - HALF_MEAN) ** 2, HALF_VARIANCE)
    assert {site.instance for trace in posterior[:200] for site in trace.latents} == {1}


def test_the_probability_of_acceptance_of_a_scope_cancels():
    """It depends on what is sought: with the prior of the accepted pass alone, mu would come out too small."""
    _, mean = truncated_with_mean_posterior(1.2)
    posterior = ppl.metropolis_hastings(truncated_with_mean, {"y": 1.2}, 10_000, seed=2, progress=False)
    assert agree(posterior.map("mu").values, mean)


def test_a_model_with_all_its_draws_in_scopes_has_nothing_to_move():
    with pytest.raises(ppl.NoLatentsError, match="in rejection scopes"):
        ppl.metropolis_hastings(marsaglia, GUM_DATA, 10, progress=False)


# -- chains ----------------------------------------------------------------------------------------------------------


def test_chains_start_apart_and_agree():
    posterior = ppl.metropolis_hastings(gum, GUM_DATA, 8000, num_chains=4, burn_in=500, seed=5, progress=False)
    assert len(posterior) == 8000
    assert posterior.num_chains == 4
    chains = np.asarray(posterior.map("mu").values).reshape(4, 2000)
    within, between = chains.var(axis=1, ddof=1).mean(), 2000 * chains.mean(axis=1).var(ddof=1)
    assert np.sqrt(((1999 / 2000) * within + between / 2000) / within) < 1.05
    assert len({chain[0] for chain in chains}) == 4


def test_workers_do_not_change_the_chains():
    runs = [
        ppl.metropolis_hastings(
            gum_marsaglia, GUM_DATA, 900, num_chains=3, burn_in=100, seed=6, num_workers=workers, progress=False
        )
        for workers in (1, 2)
    ]
    assert [trace["mu"] for trace in runs[0]] == [trace["mu"] for trace in runs[1]]


def test_thinning_and_burn_in_choose_among_the_same_steps():
    everything = ppl.metropolis_hastings(gum, GUM_DATA, 600, burn_in=0, kernel="lightweight", seed=7, progress=False)
    thinned = ppl.metropolis_hastings(
        gum, GUM_DATA, 100, burn_in=300, thinning=3, kernel="lightweight", seed=7, progress=False
    )
    assert [trace["mu"] for trace in thinned] == [trace["mu"] for trace in everything][302::3]


def test_initial_trace_is_where_the_chain_starts():
    met = []

    def spy():
        met.append(gum())
        return met[-1]

    start = ppl.prior(handlers.substitute(spy, data={"mu": 7.1}), 1, progress=False)[0]
    met.clear()
    ppl.metropolis_hastings(spy, GUM_DATA, 1, burn_in=0, initial_trace=start, seed=8, progress=False)
    assert met[0] == 7.1


def test_fixed_latents_stay_fixed():
    def model():
        a = ppl.sample(dist.Normal(0.0, 1.0), name="a")
        b = ppl.sample(dist.Normal(a, 1.0), name="b")
        ppl.observe(dist.Normal(b, 1.0), 1.0)

    chain = ppl.metropolis_hastings(
        handlers.substitute(model, data={"b": 2.0}), num_traces=10_000, seed=9, progress=False
    )
    assert {trace["b"] for trace in chain[:50]} == {2.0}
    a = np.asarray(chain.map("a").values)  # posterior of a given b = 2: Normal(1, sqrt(1/2))
    assert agree(a, 1.0)
    assert agree((a - 1.0) ** 2, 0.5)


def test_uncontrolled_latents_are_drawn_afresh():
    """y ~ Normal(x + n, 1), x, n standard normal, n uncontrolled: the posterior of both is Normal(y/3, sqrt(2/3))."""

    def model():
        n = ppl.sample(dist.Normal(0.0, 1.0), name="n", control=False)
        x = ppl.sample(dist.Normal(0.0, 1.0), name="x")
        ppl.observe(dist.Normal(x + n, 1.0), 1.5)

    chain = ppl.metropolis_hastings(model, num_traces=15_000, seed=12, progress=False)
    for name in ("n", "x"):
        values = np.asarray(chain.map(name).values)
        assert agree(values, 0.5)
        assert agree((values - 0.5) ** 2, 2.0 / 3.0)


def test_positive_and_half_bounded_variables():
    """Conjugate: rate ~ Gamma(3, 2), five Poisson counts; TruncatedNormal below a bound against its own moments."""

    def model():
        rate = ppl.sample(dist.Gamma(3.0, 2.0), name="rate")
        for count in (3, 1, 4, 2, 2):
            ppl.observe(dist.Poisson(rate), count)
        ppl.sample(dist.TruncatedNormal(0.0, 1.0, -math.inf, 0.5), name="below")

    chain = ppl.metropolis_hastings(model, num_traces=12_000, seed=13, progress=False)
    exact = stats.gamma(3 + 12, scale=1 / (2 + 5))
    rate = np.asarray(chain.map("rate").values)
    assert agree(rate, exact.mean())
    assert agree((rate - exact.mean()) ** 2, exact.var())
    below = np.asarray(chain.map("below").values)
    assert below.max() <= 0.5
    assert agree(below, stats.truncnorm(-np.inf, 0.5).mean())


def test_vector_valued_latents():
    def model():
        x = ppl.sample(dist.MultivariateNormal([0.0, 0.0], [[1.0, 0.0], [0.8, 0.6]]), name="x")
        ppl.observe(dist.Normal(x[0] + x[1], 1.0), 2.0)

    chain = ppl.metropolis_hastings(model, num_traces=15_000, seed=14, progress=False)
    x = np.asarray(chain.map("x").values)
    cov = np.array([[1.0, 0.8], [0.8, 1.0]])
    gain = cov @ np.ones(2) / (np.ones(2) @ cov @ np.ones(2) + 1.0)
    for dimension in range(2):
        assert agree(x[:, dimension], 2.0 * gain[dimension])


def test_tempering():
    """GUM with the likelihood to the power 1/2: precision 1/5 + 1/2, mean weighted accordingly."""
    chain = ppl.metropolis_hastings(
        gum, GUM_DATA, 10_000, likelihood_importance=0.5, burn_in=1000, seed=15, progress=False
    )
    mu = np.asarray(chain.map("mu").values)
    precision = 0.2 + 0.5
    assert agree(mu, (0.2 * 1.0 + 0.25 * 17.0) / precision)
    assert agree((mu - (0.2 * 1.0 + 0.25 * 17.0) / precision) ** 2, 1.0 / precision)


def test_factors_are_part_of_the_target():
    def model():
        x = ppl.sample(dist.Normal(0.0, 1.0), name="x")
        ppl.factor(-0.5 * (x - 1.0) ** 2)

    x = np.asarray(ppl.metropolis_hastings(model, num_traces=10_000, seed=16, progress=False).map("x").values)
    assert agree(x, 0.5)
    assert agree((x - 0.5) ** 2, 0.5)


def test_every_chain_starts_from_a_given_trace():
    start = handlers.trace(handlers.substitute(gum, data={"mu": 30.0})).get_trace()
    chains = ppl.metropolis_hastings(
        gum, GUM_DATA, 20, num_chains=4, burn_in=0, initial_trace=start, kernel=ppl.RandomWalk(0.0), seed=1,
        progress=False,
    ).chains  # fmt: skip
    assert all(chain[0]["mu"] > 15.0 for chain in chains)
    assert len({chain[-1]["mu"] for chain in chains}) == 4


def test_a_start_is_looked_for_where_the_density_is_not_zero():
    """P(x > 3) = 0.00135: found among the first thousands of prior executions."""

    def model():
        x = ppl.sample(dist.Normal(0.0, 1.0), name="x")
        ppl.factor(0.0 if x > 3.0 else -math.inf, name="rare")

    chain = ppl.metropolis_hastings(model, num_traces=10_000, seed=17, progress=False)
    x = np.asarray(chain.map("x").values)
    assert x.min() > 3.0
    assert agree(x, stats.truncnorm(3.0, np.inf).mean())


def test_initial_traces_that_will_not_do():
    def model():
        x = ppl.sample(dist.Uniform(0.0, 1.0), name="x")
        ppl.observe(dist.Uniform(0.0, x), 0.9, name="y")

    start = handlers.trace(handlers.substitute(model, data={"x": 0.1})).get_trace()
    with pytest.raises(ppl.DegenerateWeightsError, match=r"The initial trace does not have.*'y'.*0\.9"):
        ppl.metropolis_hastings(model, num_traces=10, initial_trace=start, progress=False)
    with pytest.raises(TypeError, match=r"initial_trace must be a Trace.*prior\(model, 1\)\[0\]"):
        ppl.metropolis_hastings(model, num_traces=10, initial_trace={"x": 0.95}, progress=False)


def test_chains_on_disk_are_those_in_memory(tmp_path):
    inside, outside = (
        ppl.metropolis_hastings(gum, GUM_DATA, 600, num_chains=2, burn_in=50, seed=6, path=path, progress=False)
        for path in (None, tmp_path / "chains")
    )
    assert np.array_equal(inside.map("mu").values, outside.map("mu").values)
    assert outside.num_chains == 2
    # A rejected step stores no row of its own.
    assert 1 < len(np.unique(outside.values.starts)) < 600


@pytest.mark.parametrize("kernel", ["hamiltonian", ppl.RandomWalk, 0.5])
def test_a_kernel_must_be_known(kernel):
    with pytest.raises(ValueError, match=r"random_walk.*or a kernel such as RandomWalk\(\)"):
        ppl.metropolis_hastings(gum, GUM_DATA, 10, kernel=kernel, progress=False)


def test_observations_that_no_execution_meets_are_told_early():
    with (
        pytest.warns(UserWarning, match="No site named 'obs2' was met in the first 100 traces"),
        pytest.raises(ppl.UnknownObservationError),
    ):
        ppl.metropolis_hastings(gum, {**GUM_DATA, "obs2": 1.0}, 10, burn_in=200, seed=1, progress=False)
