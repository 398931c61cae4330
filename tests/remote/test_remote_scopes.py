"""Rejection loops that simulators mark: one accepted pass is the trace, under every engine and in every mode."""

import gc

import numpy as np
import pytest
import remote_programs
from infer.test_compiled import untrained
from remote_programs import TRUNCATED_DATA
from remote_simulators import simulator
from scipy import stats

import ppl_jax as ppl
import ppl_jax.distributions as dist
from ppl_jax import handlers
from ppl_jax.nn import LSTM
from ppl_jax.running.execution import Execution, execute
from ppl_jax.streams import Stream


def exact_moments():
    """Mean and variance of mu given y in ``truncated``, by quadrature over mu and z."""
    mu, z = np.linspace(-1.5, 1.5, 601)[:, None], np.linspace(0.0, 8.0, 1601)[None, :]
    accepted = stats.norm.pdf(z, mu, 1.0) / stats.norm.sf(0.0, mu, 1.0)
    weights = (accepted * stats.norm.pdf(TRUNCATED_DATA["y"], z, 0.5)).sum(axis=1)
    weights[[0, -1]] /= 2.0  # the trapezoidal rule
    weights /= weights.sum()
    mean = float(weights @ mu[:, 0])
    return mean, float(weights @ (mu[:, 0] - mean) ** 2)


@pytest.fixture(scope="module")
def truncated():
    """Serves the program whose probability of acceptance depends on what is sought."""
    with simulator("truncated") as model:
        yield model


def check_mean(posterior, samples):
    """Four standard errors of ``samples`` independent draws."""
    mean, variance = exact_moments()
    assert posterior.map("mu").mean == pytest.approx(mean, abs=4 * np.sqrt(variance / samples))


@pytest.mark.parametrize("proposal", [None, lambda site: dist.Uniform(-1.5, 1.5)], ids=["by itself", "draw by draw"])
def test_importance_sampling(truncated, proposal):
    """Of each loop one pass is there, whose draw has instance 1, and for which nothing is proposed."""
    posterior = ppl.importance_sampling(truncated, TRUNCATED_DATA, 1500, proposal=proposal, seed=1, progress=False)
    check_mean(posterior, posterior.effective_sample_size)
    for trace in posterior[:300]:
        assert [(site.name, site.instance) for site in trace.sites] == [("mu", 1), ("z", 1), ("y", 1)]
        assert trace["z"] > 0.0
        assert trace.sites[1].proposal is None


def standard_error(values, num_batches=30):
    """Of a chain's mean, by batch means."""
    length = len(values) // num_batches
    means = np.reshape(np.asarray(values)[: length * num_batches], (num_batches, length)).mean(axis=1)
    return float(means.std(ddof=1) / np.sqrt(num_batches))


@pytest.mark.parametrize(
    "by_rows", [True, pytest.param(False, marks=pytest.mark.slow)], ids=["by rows", "by statements"]
)
def test_metropolis_hastings_against_quadrature(truncated, by_rows):
    """The unknown probability of acceptance must cancel: 4.5 standard errors by batch means."""
    mean, variance = exact_moments()
    model = truncated if by_rows else (lambda: truncated())
    chain = ppl.metropolis_hastings(model, TRUNCATED_DATA, 3000, burn_in=200, seed=2, progress=False)
    mu = np.asarray(chain.map("mu").values)
    assert abs(mu.mean() - mean) < 4.5 * standard_error(mu)
    assert abs(((mu - mean) ** 2).mean() - variance) < 4.5 * standard_error((mu - mean) ** 2)


def test_both_ways_of_metropolis_hastings_are_one_chain(truncated):
    runs = [
        ppl.metropolis_hastings(model, TRUNCATED_DATA, 200, burn_in=50, seed=3, progress=False)
        for model in (truncated, lambda: truncated())
    ]
    assert [[s.value for s in trace.sites] for trace in runs[0]] == [
        [s.value for s in trace.sites] for trace in runs[1]
    ]


def test_a_network_proposes_beside_a_scope(truncated):
    """One chain by rows and by statements, against quadrature: 4.5 standard errors, which are Geyer's for chains."""
    network = untrained(remote_programs.truncated, LSTM(8))
    settings = {"proposal": network, "burn_in": 50, "seed": 7, "progress": False}
    posterior = ppl.metropolis_hastings(truncated, TRUNCATED_DATA, 1500, **settings)
    mu = posterior.map("mu")
    assert abs(mu.mean - exact_moments()[0]) < 4.5 * mu.standard_error
    again = ppl.metropolis_hastings(lambda: truncated(), TRUNCATED_DATA, 150, **settings)
    assert [trace["mu"] for trace in again] == [trace["mu"] for trace in posterior[:150]]


def test_sequential_monte_carlo(truncated):
    runs = [ppl.smc(truncated, TRUNCATED_DATA, 150, seed=seed, progress=False) for seed in range(4)]
    mean, variance = exact_moments()
    pooled = np.mean([run.map("mu").mean for run in runs])
    assert pooled == pytest.approx(mean, abs=4 * np.sqrt(variance / sum(run.effective_sample_size for run in runs)))


def test_nested_loops_in_every_mode():
    """By itself, and asked draw by draw: the same draws from the same streams, the same accepted passes."""
    with simulator("nested") as model:
        whole = ppl.importance_sampling(model, {"data": 1.0}, 200, seed=4, progress=False)
        asked = ppl.importance_sampling(model, {"data": 1.0}, 200, proposal=lambda s: None, seed=4, progress=False)
        chain = ppl.metropolis_hastings(model, {"data": 1.0}, 100, burn_in=20, seed=5, progress=False)
        again = ppl.metropolis_hastings(lambda: model(), {"data": 1.0}, 100, burn_in=20, seed=5, progress=False)
        recorded = handlers.trace(handlers.seed(model, seed=4, index=3)).get_trace()
    for one, other in ((whole, asked), (chain, again)):
        for here, there in zip(one, other, strict=True):
            assert [(s.address, s.instance, s.name, s.value) for s in here.sites] == [
                (s.address, s.instance, s.name, s.value) for s in there.sites
            ]
            assert [(s.name, s.instance) for s in here.latents] == [
                ("first", 1), ("x", 1), ("y", 1), ("last", 1)
            ]  # fmt: skip
            assert here["x"] + here["y"] > 0.0
            assert here["y"] >= -0.5
    assert np.allclose(whole.log_weights, asked.log_weights, atol=1e-12)
    assert [site.value for site in recorded.latents] == [site.value for site in whole[3].latents]


@pytest.mark.slow
def test_scopes_that_a_rejection_takes_along_leave_nothing_for_the_garbage_collector():
    with simulator("taken_along") as model:

        def asked(number):
            return ppl.importance_sampling(model, {"data": 1.0}, number, proposal=lambda s: None, progress=False)

        asked(10)
        gc.collect()
        gc.disable()
        try:
            asked(300)
            assert gc.collect() < 300
        finally:
            gc.enable()


def test_without_the_extension_every_pass_is_there():
    with simulator("truncated", extension=False) as model:
        posterior = ppl.importance_sampling(model, TRUNCATED_DATA, 500, seed=6, progress=False)
    check_mean(posterior, posterior.effective_sample_size)
    assert max(trace.latents[-1].instance for trace in posterior) > 2


# -- the same model here and there -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("program", "data"), [("truncated", TRUNCATED_DATA), ("nested", {"data": 1.0}), ("two_loops", {"y": 0.3})]
)
def test_a_model_is_the_same_here_and_in_a_simulator(program, data):
    """Sites, addresses, instances, scopes with the number of rejected passes, weights: from the same seed the same."""
    here = getattr(remote_programs, program)
    with simulator(program) as there:
        for index in range(40):
            mine, theirs = (
                execute(Execution(Stream(6, index), data, score=True), model) for model in (here, there)
            )  # the simulator is asked for every draw
            assert [
                (s.kind, s.address, s.instance, s.name, s.value, s.control) for s in mine.sites
            ] == [(s.kind, s.address, s.instance, s.name, s.value, s.control) for s in theirs.sites]  # fmt: skip
            assert mine.scopes == theirs.scopes
            assert mine.log_importance_weight == pytest.approx(theirs.log_importance_weight, abs=1e-12)
        engines = [
            lambda model: ppl.importance_sampling(model, data, 300, seed=7, progress=False),  # it draws by itself
            lambda model: ppl.metropolis_hastings(model, data, 100, burn_in=20, seed=8, progress=False),
            lambda model: ppl.smc(model, data, 40, seed=9, progress=False),
        ]
        for engine in engines:
            mine, theirs = engine(here), engine(there)
            assert [[s.value for s in trace.sites] for trace in mine] == [
                [s.value for s in trace.sites] for trace in theirs
            ]
            np.testing.assert_allclose(mine.log_weights, theirs.log_weights, atol=1e-12)


@pytest.mark.parametrize("by", ["rows", "statements"])
@pytest.mark.parametrize(
    ("program", "data", "what"),
    [
        ("observes_in_scope", {}, "is observed"),
        ("factors_in_scope", {}, "weighs"),
        ("draws_in_scope", {"there": 0.3}, "is observed"),
    ],
)
def test_nothing_is_observed_or_weighed_in_a_scope(simulators, program, data, what, by):
    model = simulators(program)
    with pytest.raises(ppl.ObservationError, match=rf"'there' at .*it {what}.* within the rejection scope 'loop'"):
        ppl.importance_sampling(model if by == "rows" else (lambda: model()), data, 20, progress=False)


# -- under a network ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def network():
    """One that proposes for mu and z of ``truncated``, here and there at the same addresses."""
    return untrained(remote_programs.truncated, LSTM(8))


def guided(model, network, number, **settings):
    return ppl.importance_sampling(model, TRUNCATED_DATA, number, proposal=network, progress=False, **settings)


def test_draws_in_scopes_of_a_simulator_come_from_the_prior(truncated, network):
    """Exactly as here where no loop is run again; mu is proposed for, and z has the prior's acceptance."""
    there = guided(truncated, network, 800, seed=10)
    here = guided(remote_programs.truncated, network, 800, seed=10, fresh_loops=0)
    np.testing.assert_array_equal(there.log_weights, here.log_weights)
    check_mean(there, there.effective_sample_size)
    for trace in there[:100]:
        assert [(site.name, site.instance) for site in trace.sites] == [("mu", 1), ("z", 1), ("y", 1)]
        gain = trace.log_importance_weight - trace.log_likelihood
        assert gain != pytest.approx(0.0, abs=1e-9)  # mu was proposed for


def test_loops_of_a_simulator_are_run_again_on_request(truncated, network):
    """Over the protocol the same executions, fresh passes and weights as here, bit for bit."""
    there = guided(truncated, network, 20, seed=11, fresh_loops=3)
    here = guided(remote_programs.truncated, network, 20, seed=11, fresh_loops=3, lockstep=7)
    np.testing.assert_array_equal(there.log_weights, here.log_weights)
    assert [[s.value for s in trace.sites] for trace in there] == [[s.value for s in trace.sites] for trace in here]
