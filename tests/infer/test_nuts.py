"""NUTS against exact posteriors; its chains, its traces, and what it refuses."""

import math
import signal

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as npd
import pytest
from programs import GUM_DATA, GUM_MEAN, GUM_STDDEV, gum
from scipy import stats

import ppl_jax as ppl
import ppl_jax.distributions as dist
from ppl_jax import handlers

QUIET = {"progress": False}


def near(values, mean, variance):
    """Mean and variance of a column of draws, one in five of which counts as independent, within four errors."""
    worth = len(values) / 5
    return abs(values.mean() - mean) < 4 * math.sqrt(variance / worth) and abs(
        values.var() - variance
    ) < 4 * variance * math.sqrt(2.0 / worth)


@pytest.fixture(scope="module")
def posterior():
    return ppl.nuts(gum, GUM_DATA, 3000, num_chains=3, burn_in=300, seed=1, **QUIET)


def test_gaussian_with_unknown_mean(posterior):
    assert near(np.asarray(posterior.map("mu").values), GUM_MEAN, GUM_STDDEV**2)


def test_chains_agree_and_differ(posterior):
    chains = np.asarray(posterior.map("mu").values).reshape(3, 1000)
    assert posterior.num_chains == 3
    assert len(np.unique(chains[:, 0])) == 3
    assert all(near(chain, GUM_MEAN, GUM_STDDEV**2) for chain in chains)


def test_traces_are_whole(posterior):
    trace = posterior[7]
    assert trace.result == trace["mu"]
    assert [site.name for site in trace.sites] == ["mu", "obs0", "obs1"]
    assert (trace["obs0"], trace["obs1"]) == (8.0, 9.0)
    host = ppl.prior(gum, 1, **QUIET)[0]
    assert [(s.address, s.instance) for s in trace.sites] == [(s.address, s.instance) for s in host.sites]
    expected = dist.Normal(1.0, math.sqrt(5.0)).log_prob(trace["mu"])
    expected += sum(dist.Normal(trace["mu"], math.sqrt(2.0)).log_prob(value) for value in GUM_DATA.values())
    assert trace.log_joint == pytest.approx(expected, abs=1e-4)  # parameters in float32


def test_same_seed_gives_equal_bits_and_another_seed_does_not():
    runs = [ppl.nuts(gum, GUM_DATA, 50, burn_in=50, seed=seed, **QUIET).map("mu").values for seed in (4, 4, 5)]
    assert np.array_equal(runs[0], runs[1])
    assert not np.array_equal(runs[0], runs[2])


@pytest.mark.slow
def test_supports_of_every_kind():
    """Independent latents, each with a normal factor: means by quadrature."""
    families = {
        "positive": dist.Gamma(2.0, 1.0),
        "share": dist.Beta(2.0, 3.0),
        "interval": dist.Uniform(-1.0, 2.0),
        "above": dist.TruncatedNormal(0.0, 1.0, 0.5, math.inf),
        "below": dist.TruncatedNormal(0.0, 1.0, -math.inf, 0.5),
        "mixed": dist.Mixture([0.4, 0.6], [dist.Normal(-1.0, 1.0), dist.Normal(1.0, 0.7)]),
        "far": dist.TruncatedNormal(0.0, 1.0, 9.0, math.inf),
    }

    def model():
        for name, family in families.items():
            ppl.factor(-0.5 * (ppl.sample(family, name=name) - 0.3) ** 2)

    chain = ppl.nuts(model, num_traces=4000, burn_in=500, target_accept=0.9, seed=2, **QUIET)
    for name, family in families.items():
        low, high = family.support
        grid = np.linspace(max(low, -12.0), min(high, 25.0), 400_001)
        weights = np.exp(family.log_prob(grid) - 0.5 * (grid - 0.3) ** 2)
        mean = np.average(grid, weights=weights)
        assert near(chain.map(name).values, mean, np.average((grid - mean) ** 2, weights=weights)), name


def test_vectors_correlations_and_names_that_repeat():
    def model():
        x = ppl.sample(dist.MultivariateNormal(np.zeros(2), np.array([[1.0, 0.0], [0.9, 0.5]])), name="x")
        y = ppl.sample(dist.Normal(x, 0.5), name="x")
        ppl.observe(dist.Normal(jnp.sum(y), 1.0), 2.0)
        return y

    chain = ppl.nuts(model, num_traces=3000, burn_in=500, dense_mass=True, seed=3, **QUIET)
    covariance = np.array([[1.0, 0.9], [0.9, 0.9**2 + 0.25]]) + 0.25 * np.eye(2)
    gain = covariance @ np.ones(2) / (covariance.sum() + 1.0)
    variance = np.diag(covariance) - gain**2 * (covariance.sum() + 1.0)
    for axis in range(2):
        assert near(chain.results.values[:, axis], 2.0 * gain[axis], variance[axis])
    assert np.array_equal(chain[0]["x", 2], chain[0].result)


def test_handlers_apply():
    with handlers.condition(data=GUM_DATA):
        chain = ppl.nuts(gum, num_traces=2000, burn_in=300, seed=4, **QUIET)
    assert near(chain.map("mu").values, GUM_MEAN, GUM_STDDEV**2)

    def model():
        a = ppl.sample(dist.Normal(0.0, 1.0), name="a")
        b = ppl.sample(dist.Normal(a, 1.0), name="b")
        ppl.observe(dist.Normal(b, 1.0), 1.0)

    fixed = ppl.nuts(handlers.substitute(model, data={"b": 2.0}), num_traces=2000, burn_in=300, seed=5, **QUIET)
    assert set(fixed.map("b").values) == {2.0}
    assert near(fixed.map("a").values, 1.0, 0.5)  # a given b = 2


@pytest.mark.slow
def test_thinning_and_chains_of_unequal_length():
    chain = ppl.nuts(gum, GUM_DATA, 101, num_chains=2, burn_in=50, thinning=2, seed=1, **QUIET)
    assert [len(part) for part in chain.chains] == [51, 50]


def test_a_constrained_posterior_close_to_its_bound():
    """Gamma-Poisson, conjugate."""

    def model():
        rate = ppl.sample(dist.Gamma(3.0, 2.0), name="rate")
        for count in (3, 1, 4, 2, 2):
            ppl.observe(dist.Poisson(rate), count)

    chain = ppl.nuts(model, num_traces=3000, burn_in=300, seed=6, **QUIET)
    exact = stats.gamma(3 + 12, scale=1 / (2 + 5))
    assert near(chain.map("rate").values, exact.mean(), exact.var())


# -- what it refuses -------------------------------------------------------------------------------------------------


def discrete():
    k = ppl.sample(dist.Poisson(3.0), name="k")
    ppl.observe(dist.Normal(k, 1.0), 0.0)


def branching():
    x = ppl.sample(dist.Normal(0.0, 1.0), name="x")
    ppl.observe(dist.Normal(1.0 if x > 0 else 2.0, 1.0), 0.0)


def impossible():
    ppl.sample(dist.Normal(0.0, 1.0), name="x")
    ppl.observe(dist.Uniform(0.0, 1.0), 2.0, name="y")


@pytest.mark.parametrize(
    ("model", "data", "error", "message"),
    [
        (discrete, {}, ppl.PPLError, "'k'.*Poisson is discrete.*metropolis_hastings"),
        (branching, {}, ppl.UntraceableModelError, "test_nuts.py, line .*'x'"),
        (impossible, {}, ppl.DegenerateWeightsError, "no starting point"),
        (gum, {"obs_0": 1.0, **GUM_DATA}, ppl.UnknownObservationError, "did you mean 'obs0'"),
        (gum, {"obs0": 1.0}, ppl.ObservationError, "'obs1'.*no value"),
        (gum, {"obs0": math.nan, "obs1": 1.0}, ppl.ObservationError, "'obs0'.*NaN"),
        (gum, {"obs0": [1.0, 2.0], "obs1": 1.0}, ppl.ObservationError, "'obs0'.*shape"),
        (gum, {**GUM_DATA, "mu": 1.0}, ppl.NoLatentsError, "no latent"),
    ],
)
def test_mistakes_are_named(model, data, error, message):
    with pytest.raises(error, match=message):
        ppl.nuts(model, data, 10, burn_in=10, seed=1, **QUIET)


def test_settings_are_checked():
    with pytest.raises(ValueError, match="target_accept"):
        ppl.nuts(gum, GUM_DATA, 10, target_accept=1.0)
    with pytest.raises(ValueError, match="max_tree_depth"):
        ppl.nuts(gum, GUM_DATA, 10, max_tree_depth=0)
    with pytest.raises(ValueError, match="num_traces"):
        ppl.nuts(gum, GUM_DATA, 2, num_chains=3)


@pytest.mark.slow
def test_divergences_are_reported():
    """Neal's funnel: its neck is narrower than any step size that suits its mouth."""

    def funnel():
        log_scale = ppl.sample(dist.Normal(0.0, 3.0), name="log_scale")
        ppl.sample(dist.Normal(np.zeros(9), jnp.exp(log_scale / 2)), name="x")

    with pytest.warns(UserWarning, match="steps diverged.*target_accept"):
        ppl.nuts(funnel, num_traces=500, burn_in=200, target_accept=0.6, seed=1, **QUIET)


# -- bounds that depend on other latents -------------------------------------------------------------------------------


def nested_uniforms():
    a = ppl.sample(dist.Uniform(0, 10), name="a")
    b = ppl.sample(dist.Uniform(0, a), name="b")
    ppl.observe(dist.Normal(b, 0.5), name="y")


def nested_vectors():
    """The same with a second element that is not observed, in one vector: E[b[1]] = E[a] / 2."""
    a = ppl.sample(dist.Uniform(0, 10), name="a")
    b = ppl.sample(dist.Uniform(jnp.zeros(2), a * jnp.ones(2)), name="vector")
    ppl.tag(b[0], name="b")
    ppl.observe(dist.Normal(b[0], 0.5), name="y")


def nested_by_truncation():
    """The same density: a normal so wide that it is flat on the interval."""
    a = ppl.sample(dist.Uniform(0, 10), name="a")
    b = ppl.sample(dist.TruncatedNormal(0, 1e4, 0, a), name="b")
    ppl.observe(dist.Normal(b, 0.5), name="y")


def nested_in_numpyro():
    a = numpyro.sample("a", npd.Uniform(0.0, 10.0))
    numpyro.sample("y", npd.Normal(numpyro.sample("b", npd.Uniform(0.0, a)), 0.5))


def nested_moments():
    """E[a], E[b] given y = 2 by quadrature over b; a has density 1 / a above it, in the vector too."""
    step = 1e-4
    b = np.arange(0.0, 10.0, step) + step / 2
    likelihood = np.exp(-0.5 * ((2.0 - b) / 0.5) ** 2)
    weights = likelihood * np.log(10.0 / b)
    return (likelihood * (10.0 - b)).sum() / weights.sum(), (weights * b).sum() / weights.sum()


NESTED = {
    "scalars": nested_uniforms, "vectors": nested_vectors, "truncated": nested_by_truncation,
    "numpyro": nested_in_numpyro,
}  # fmt: skip


@pytest.mark.parametrize(
    "model",
    [
        pytest.param(model, marks=[pytest.mark.slow] if name in ("vectors", "numpyro") else [])
        for name, model in NESTED.items()
    ],
    ids=NESTED,
)
def test_bounds_that_depend_on_another_latent(model):
    posterior = ppl.nuts(model, {"y": 2.0}, 8000, num_chains=4, seed=0, progress=False)
    for name, exact in zip("ab", nested_moments(), strict=True):
        found = posterior.map(name)
        assert found.mean == pytest.approx(exact, abs=4 * found.standard_error)
        assert found.standard_error < 0.1
    assert all(np.isfinite(trace.log_joint) for trace in posterior.values[:200])


def test_a_mixture_whose_bounds_depend_on_another_latent():
    def model():
        a = ppl.sample(dist.Uniform(0, 10), name="a")
        b = ppl.sample(dist.Mixture([0.5, 0.5], [dist.Uniform(0, a), dist.Uniform(0, 2 * a)]), name="b")
        ppl.observe(dist.Normal(b, 0.5), 2.0, name="y")

    posterior = ppl.nuts(model, num_traces=1000, burn_in=300, seed=1, **QUIET)
    a, b = np.arange(5e-3, 10.0, 1e-2)[:, None], np.arange(2.5e-3, 20.0, 5e-3)
    mass = ((b < a) / a + (b < 2 * a) / (2 * a)) * np.exp(-0.5 * ((2.0 - b) / 0.5) ** 2)
    for name, grid in (("a", a), ("b", b)):
        found = posterior.map(name)
        assert found.mean == pytest.approx((mass * grid).sum() / mass.sum(), abs=4 * found.standard_error)


@pytest.mark.slow
@pytest.mark.parametrize("model", [nested_uniforms, nested_vectors])
def test_bounds_that_depend_on_another_latent_under_numpyros_own_sampler(model):
    sampler = numpyro.infer.MCMC(
        numpyro.infer.NUTS(numpyro.handlers.condition(model, {"y": 2.0})),
        num_warmup=1000, num_samples=4000, num_chains=4, chain_method="vectorized", progress_bar=False,
    )  # fmt: skip
    sampler.run(jax.random.key(0))
    a = np.asarray(sampler.get_samples()["a"], dtype=float)
    chain = ppl.Empirical(a, num_chains=4)
    assert a.mean() == pytest.approx(nested_moments()[0], abs=4 * chain.standard_error)


# -- starts, and ends --------------------------------------------------------------------------------------------------


def test_a_start_that_cannot_be_found_names_the_site():
    def model():
        shape = ppl.sample(dist.Gamma(2.0, 1.0), name="shape")
        ppl.observe(dist.Beta(shape, 1.0), name="fraction")

    with pytest.raises(ppl.DegenerateWeightsError, match=r"no starting point.*observe site 'fraction'.*1.5 under Beta"):
        ppl.nuts(model, {"fraction": 1.5}, 10, seed=0, progress=False)


def test_traces_of_zero_density_are_refused():
    def jumping():  # the gradient knows nothing of the step, and numpyro's densities nothing of bounds
        x = ppl.sample(dist.Normal(0.0, 1.0), name="x")
        ppl.factor(jnp.where(x > 0.5, -jnp.inf, 0.0), name="wall")

    posterior = ppl.nuts(jumping, {}, 500, seed=0, progress=False)
    assert posterior.map("x").values.max() <= 0.5


def test_ctrl_c_returns_what_was_kept(monkeypatch):
    from ppl_jax.running.progress import Progress

    calls = []

    def interrupt(self, number, note=""):
        calls.append(number)
        if len(calls) == 30:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(Progress, "advance", interrupt)
    with pytest.warns(ppl.InterruptedRunWarning, match="returning the"):
        part = ppl.nuts(gum, GUM_DATA, 10**7, burn_in=100, seed=0, progress=False)
    monkeypatch.undo()
    whole = ppl.nuts(gum, GUM_DATA, len(part), burn_in=100, seed=0, progress=False)
    assert 0 < len(part) < 10**7
    assert np.array_equal(part.map("mu").values, whole.map("mu").values)
