"""Which side runs a model: chosen by trying once, the same posterior from both, and whole batches on the device."""

import math

import jax.numpy as jnp
import numpy as np
import pytest
from programs import (
    GUM_DATA,
    GUM_LOG_EVIDENCE,
    GUM_MEAN,
    GUM_STDDEV,
    HMM_DATA,
    HMM_MEANS,
    HMM_MOVE,
    HMM_START,
    SPRINKLER_DATA,
    gum,
    gum_marsaglia,
    hidden_markov_posterior,
    sprinkler_posterior,
)

import ppl_jax as ppl
import ppl_jax.distributions as dist
from ppl_jax import handlers

QUIET = {"progress": False}


def evidence_error(posterior):
    """Standard error of the log evidence, by the delta method."""
    weights = np.exp(posterior.log_weights - posterior.log_weights.max())
    return float(weights.std() / weights.mean() / math.sqrt(len(weights)))


def test_auto_takes_jax_for_long_runs_of_models_that_it_can_trace():
    long, short = (ppl.prior(gum, number, seed=1, **QUIET).map("mu").values for number in (10_000, 9999))
    on_jax, on_host = (
        ppl.prior(gum, 10_000, seed=1, backend=backend, **QUIET).map("mu").values for backend in ("jax", "host")
    )
    assert np.array_equal(long, on_jax)
    assert np.array_equal(short, on_host[:9999])
    assert not np.array_equal(long, on_host)


def test_auto_falls_back_to_the_host_without_a_word(recwarn):
    chosen, host = (
        ppl.importance_sampling(gum_marsaglia, GUM_DATA, 10_000, seed=1, backend=backend, **QUIET)
        for backend in ("auto", "host")
    )
    assert np.array_equal(chosen.log_weights, host.log_weights)
    unreliable = ppl.UnreliablePosteriorWarning  # of the weights, whoever computes them
    assert not [str(warning.message) for warning in recwarn if warning.category is not unreliable]
    with pytest.raises(ppl.UntraceableModelError, match=r"programs.py, line .*backend='host'"):
        ppl.importance_sampling(gum_marsaglia, GUM_DATA, 10, seed=1, backend="jax", **QUIET)


def test_posterior_and_evidence_of_the_gaussian():
    posterior = ppl.importance_sampling(gum, GUM_DATA, 200_000, seed=2, backend="jax", **QUIET)
    mu, ess = posterior.map("mu"), posterior.effective_sample_size
    assert mu.mean == pytest.approx(GUM_MEAN, abs=4 * GUM_STDDEV / math.sqrt(ess))
    assert mu.stddev == pytest.approx(GUM_STDDEV, abs=4 * GUM_STDDEV / math.sqrt(2 * ess))
    assert posterior.log_evidence == pytest.approx(GUM_LOG_EVIDENCE, abs=4 * evidence_error(posterior))
    assert posterior[5].result == posterior[5]["mu"]


def sprinkler():
    """The network of coins, with its tables as arrays."""
    rain = ppl.sample(dist.Bernoulli(0.2), name="rain")
    on = ppl.sample(dist.Bernoulli(jnp.where(rain == 1, 0.01, 0.4)), name="sprinkler")
    ppl.observe(dist.Bernoulli(jnp.array([[0.05, 0.9], [0.8, 0.99]])[rain, on]), name="wet")
    return rain


def test_discrete_network():
    exact, log_evidence = sprinkler_posterior()
    for backend in ("jax", "host"):
        number = 50_000 if backend == "jax" else 1500
        posterior = ppl.importance_sampling(sprinkler, SPRINKLER_DATA, number, seed=3, backend=backend, **QUIET)
        error = math.sqrt(exact * (1 - exact) / posterior.effective_sample_size)
        assert posterior.map("rain").mean == pytest.approx(exact, abs=4 * error)
        assert posterior.log_evidence == pytest.approx(log_evidence, abs=4 * evidence_error(posterior))


def hidden_markov():
    move, means, states = jnp.asarray(HMM_MOVE), jnp.asarray(HMM_MEANS), []
    probs = jnp.asarray(HMM_START)
    for step in range(len(HMM_DATA)):
        states.append(ppl.sample(dist.Categorical(probs), name=f"x{step}"))
        ppl.observe(dist.Normal(means[states[-1]], 1.0), name=f"y{step}")
        probs = move[states[-1]]
    return states


@pytest.mark.slow
def test_hidden_markov_model_against_forward_backward():
    marginals, log_evidence = hidden_markov_posterior()
    posterior = ppl.importance_sampling(hidden_markov, HMM_DATA, 120_000, seed=4, backend="jax", **QUIET)
    assert posterior.log_evidence == pytest.approx(log_evidence, abs=4 * evidence_error(posterior))
    for step in range(0, 16, 3):
        states = np.asarray(posterior.map(f"x{step}").values)
        for state in range(3):
            hits = states == state
            estimate = posterior.weights @ hits
            error = math.sqrt(np.sum(posterior.weights**2 * (hits - estimate) ** 2))  # Owen (2013), equation 9.9
            # 18 comparisons at 4.5 standard errors
            assert estimate == pytest.approx(marginals[step, state], abs=4.5 * error + 1e-4), (step, state)


@pytest.mark.parametrize("backend", ["jax", "host"])
def test_inflation_tempering_and_proposals(backend):
    number = 40_000 if backend == "jax" else 8000
    settings = {"num_traces": number, "seed": 5, "backend": backend, **QUIET}
    for posterior in (
        ppl.importance_sampling(gum, GUM_DATA, prior_inflation=2.0, **settings),
        ppl.importance_sampling(handlers.inflate(gum, 2.0, names="mu"), GUM_DATA, **settings),
        ppl.importance_sampling(gum, GUM_DATA, proposal=lambda site: dist.Normal(7.0, 1.5), **settings),
    ):
        mu, ess = posterior.map("mu"), posterior.effective_sample_size
        assert mu.mean == pytest.approx(GUM_MEAN, abs=4 * GUM_STDDEV / math.sqrt(ess))
        assert posterior.log_evidence == pytest.approx(GUM_LOG_EVIDENCE, abs=4 * evidence_error(posterior))
    tempered = ppl.importance_sampling(gum, GUM_DATA, likelihood_importance=0.5, **settings)
    precision = 0.2 + 0.5
    error = precision**-0.5 / math.sqrt(tempered.effective_sample_size)
    assert tempered.map("mu").mean == pytest.approx((0.2 * 1.0 + 0.25 * 17.0) / precision, abs=4 * error)


def test_observations_of_a_prior_run_are_put_in_and_not_weighed():
    for backend in ("jax", "host"):
        prior = ppl.prior(gum, 200, observations={"obs1": 3.0}, seed=1, backend=backend, **QUIET)
        assert set(prior.map("obs1").values) == {3.0}
        assert len(set(prior.map("obs0").values)) == 200
        assert not prior.log_weights.any()
        assert not prior.has_log_evidence


@pytest.mark.parametrize("backend", ["jax", "host"])
def test_on_disk_equals_in_memory(backend, tmp_path):
    inside, outside = (
        ppl.prior(gum, 3000, seed=9, backend=backend, path=path, **QUIET) for path in (None, tmp_path / "traces")
    )
    assert np.array_equal(inside.map("obs0").values, outside.map("obs0").values)
    assert outside.values.path == tmp_path / "traces"


def test_workers_do_not_change_a_prior_run(tmp_path):
    runs = [
        ppl.prior(gum_marsaglia, 2500, seed=7, num_workers=n, path=tmp_path / str(n), backend="host", **QUIET)
        for n in (1, 2, 3)
    ]
    for run in runs[1:]:
        assert np.array_equal(runs[0].values.heap, run.values.heap)
        assert np.array_equal(runs[0].values.starts, run.values.starts)
    assert runs[0][7].sites[-1].address == runs[1][7].sites[-1].address


@pytest.mark.slow
def test_equal_seeds_give_equal_bits_on_the_device_too():
    runs = [ppl.importance_sampling(gum, GUM_DATA, 500, seed=s, backend="jax", **QUIET) for s in (7, 7, 8)]
    assert np.array_equal(runs[0].values.heap, runs[1].values.heap)
    assert not np.array_equal(runs[0].values.heap, runs[2].values.heap)
