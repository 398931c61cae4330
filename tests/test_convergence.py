"""How far samples can be trusted: chains and weights against ArviZ, and what is said of those that cannot."""

import math
import warnings

import numpy as np
import pytest
from programs import GUM_DATA, gum

import ppl_jax as ppl
import ppl_jax.distributions as dist
from ppl_jax.empirical.convergence import bulk_effective_sample_size, pareto_k, pareto_limit, r_hat

az = pytest.importorskip("arviz")
QUIET = {"progress": False}


def autoregressive(chains, length, rho, seed):
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(chains, length))
    for step in range(1, length):
        values[:, step] += rho * values[:, step - 1]
    return values


@pytest.mark.parametrize(("chains", "length"), [(1, 50), (2, 300), (4, 1001), (3, 17)])
@pytest.mark.parametrize("rho", [-0.8, 0.0, 0.9, 1.0])
def test_chains_as_arviz_judges_them(chains, length, rho):
    values = autoregressive(chains, length, rho, seed=length)
    assert bulk_effective_sample_size(list(values)) == pytest.approx(float(az.ess(values)), rel=1e-9)
    if chains > 1:
        assert r_hat(list(values)) == pytest.approx(float(az.rhat(values)), rel=1e-9)


def test_discrete_constant_short_and_broken_chains():
    values = np.random.default_rng(0).integers(0, 3, (4, 300)).astype(float)
    assert bulk_effective_sample_size(list(values)) == pytest.approx(float(az.ess(values)), rel=1e-9)
    assert bulk_effective_sample_size([np.ones(50)] * 2) == 100 and math.isnan(r_hat([np.ones(50)] * 2))
    assert math.isnan(bulk_effective_sample_size([np.arange(3.0)])) and math.isnan(r_hat([np.arange(3.0)]))
    assert math.isnan(bulk_effective_sample_size([np.array([1.0, np.nan, 2.0, 3.0])]))
    assert r_hat([np.zeros(50), np.ones(50)]) == math.inf


@pytest.mark.parametrize(("count", "scale"), [(1000, 1.0), (200, 3.0), (20_000, 5.0), (50, 0.1)])
def test_tails_of_weights_as_arviz_judges_them(count, scale):
    log_weights = scale * np.random.default_rng(count).normal(size=count)
    assert pareto_k(log_weights) == pytest.approx(float(az.psislw(log_weights)[1]), rel=1e-9)


def test_weights_without_a_tail():
    assert pareto_k(np.zeros(1000)) == -math.inf
    assert math.isnan(pareto_k(np.arange(10.0)))
    assert pareto_k(np.where(np.arange(1000) % 2, 0.0, -np.inf)) == -math.inf
    assert pareto_limit(100) == 0.5 and pareto_limit(10**6) == 0.7


def test_the_size_of_chains_is_that_of_their_values():
    values = autoregressive(4, 1000, 0.95, seed=1)
    posterior = ppl.Empirical(values.ravel(), num_chains=4)
    assert posterior.effective_sample_size == pytest.approx(float(az.ess(values)), rel=1e-9)
    assert posterior.r_hat == pytest.approx(float(az.rhat(values)), rel=1e-9)
    assert "r_hat=1." in repr(posterior) and math.isnan(posterior.pareto_k)
    pairs = ppl.Empirical(np.stack([values.ravel(), np.random.default_rng(0).normal(size=4000)], axis=1), num_chains=4)
    assert pairs.effective_sample_size == posterior.effective_sample_size  # the worse of the two


def two_modes():
    """Modes at -1 and 1 that a walk of this width does not leave."""
    x = ppl.sample(dist.Normal(0.0, 1.0), name="x")
    ppl.observe(dist.Normal(x * x, 0.01), name="square")


def test_chains_that_disagree_are_told():
    with pytest.warns(ppl.UnreliablePosteriorWarning, match=r"not converged.*R-hat is"):
        stuck = ppl.metropolis_hastings(
            two_modes, {"square": 1.0}, 4000, num_chains=4, burn_in=500, kernel="random_walk", seed=2, **QUIET
        )
    chains = np.asarray(stuck.map("x").values).reshape(4, -1)
    assert {-1.0, 1.0} == set(np.sign(chains[:, -1]))  # some chains in each mode
    assert stuck.effective_sample_size == pytest.approx(float(az.ess(chains)), rel=1e-9) and stuck.r_hat > 1.5
    assert stuck.map("x").effective_sample_size == stuck.effective_sample_size < 20


def test_chains_that_agree_are_not():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        good = ppl.metropolis_hastings(gum, GUM_DATA, 4000, num_chains=2, burn_in=500, seed=1, **QUIET)
        nuts = ppl.nuts(gum, GUM_DATA, 1000, num_chains=2, burn_in=300, seed=1, **QUIET)
    assert 100 < good.effective_sample_size < 3000 and good.r_hat < 1.05
    assert 0.6 < nuts.info["acceptance"] <= 1.0 and nuts.info["divergent"] == 0 and len(nuts.info["step_size"]) == 2


def test_chains_of_changing_structure_are_judged_by_what_they_share():
    def model():
        shared = ppl.sample(dist.Normal(0.0, 1.0))  # without a name
        if ppl.sample(dist.Bernoulli(0.5)):
            ppl.sample(dist.Normal(shared, 1.0))

    chain = ppl.metropolis_hastings(model, {}, 2000, burn_in=0, seed=1, **QUIET)
    first, coin = ([trace.sites[k].value for trace in chain] for k in (0, 1))
    expected = min(float(az.ess(np.array([column], dtype=float))) for column in (first, coin))
    assert chain.effective_sample_size == pytest.approx(expected, rel=1e-9)


def narrow():
    mu = ppl.sample(dist.Normal(0.0, 1.0), name="mu")
    for k in range(20):
        ppl.observe(dist.Normal(mu, 0.01), name=f"y{k}")


def test_weights_that_one_trace_carries_are_told():
    data = {f"y{k}": 3.5 for k in range(20)}
    with pytest.warns(ppl.UnreliablePosteriorWarning, match=r"too uneven.*20000 traces are worth \d\.\d,.*network"):
        posterior = ppl.importance_sampling(narrow, data, 20_000, seed=1, **QUIET)
    assert "too uneven to trust" in repr(posterior)


def test_what_an_engine_knows_is_stored(tmp_path):
    nuts = ppl.nuts(gum, GUM_DATA, 100, burn_in=100, seed=1, **QUIET)
    nuts.save(tmp_path / "chain")
    again = ppl.Empirical.load(tmp_path / "chain")
    assert again.info == nuts.info and again.is_chain
    assert again.effective_sample_size == nuts.effective_sample_size


def one_impossible_datum():
    mu = ppl.sample(dist.Normal(0.0, 1.0), name="mu")
    ppl.observe(dist.Normal(10.0, 1e-9), 11.0, name="exact")  # a log density of -5e17
    ppl.observe(dist.Normal(mu, 0.5), 1.0, name="ordinary")


COARSE = {
    "importance sampling": lambda: ppl.importance_sampling(one_impossible_datum, {}, 200, seed=1, **QUIET),
    "few traces": lambda: ppl.importance_sampling(one_impossible_datum, {}, 10, seed=1, **QUIET),
    "jax": lambda: ppl.importance_sampling(one_impossible_datum, {}, 200, backend="jax", seed=1, **QUIET),
    "smc": lambda: ppl.smc(one_impossible_datum, {}, 100, seed=1, **QUIET),
    "chain": lambda: ppl.metropolis_hastings(one_impossible_datum, {}, 100, burn_in=10, seed=1, **QUIET),
}


@pytest.mark.parametrize("engine", COARSE.values(), ids=COARSE)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_weights_without_digits_are_told(engine):
    with pytest.warns(ppl.UnreliablePosteriorWarning, match=r"64 apart.*observe site 'exact'.*all but impossible"):
        engine()
