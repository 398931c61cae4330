"""Guided inference: exact weights, results that do not depend on the lockstep width, fall-backs, errors."""

import gc
import math
from dataclasses import replace
from functools import cache

import numpy as np
import programs
import pytest
from nn.small_network import gum_network
from nn.wide_programs import FAMILIES, MORE, SHARES, VECTORS, more
from scipy import stats

import ppl_jax as ppl
import ppl_jax.distributions as dist
from ppl_jax.encoding.tokens import CallSites
from ppl_jax.errors import NetworkError
from ppl_jax.infer.guided.lockstep import Lockstep
from ppl_jax.nn import LSTM, FeedForward, Transformer
from ppl_jax.training.trainer import Settings, prepare


@cache
def untrained(model, core, components=3):
    """A network with fresh parameters that proposes nevertheless; tests of one program share it."""
    trainer = prepare(
        model, Settings(64, 64, 0), observe_embeddings=None, core=core, mixture_components=components, prior_share=0.05,
        validation_traces=200, network=None, num_workers=1, backend="host",
    )  # fmt: skip
    return replace(trainer.network(), least_visits=0)


def guided(model, data, number, network, **settings):
    return ppl.importance_sampling(model, data, number, proposal=network, progress=False, **settings)


# -- what it finds -----------------------------------------------------------------------------------------------------


def looped():
    """A rejection loop before the data."""
    with ppl.rejection_scope(control=False) as scope:
        while ppl.sample(dist.Uniform(0.0, 1.0)) < 0.3:
            scope.reject()
    programs.gum()


def looped_twice():
    """The outer loop's pass is rejected where the inner one's scope is open."""
    with ppl.rejection_scope("outer", control=False) as outer:
        for attempt in range(3):
            with ppl.rejection_scope("inner", control=False):
                ppl.sample(dist.Uniform(0.0, 1.0))
                if attempt < 2:
                    outer.reject()
    programs.gum()


@pytest.mark.parametrize("model", [programs.gum, looped, looped_twice])
def test_executions_leave_nothing_for_the_garbage_collector(model):
    """Circles of references would fill memory, and the collector's rounds would take a third of the time."""
    network = untrained(model, FeedForward(8, 1))
    guided(model, programs.GUM_DATA, 10, network, seed=1)
    gc.collect()
    gc.disable()
    try:
        guided(model, programs.GUM_DATA, 500, network, seed=1)
        assert gc.collect() < 500
    finally:
        gc.enable()


def test_the_posterior_of_gum_is_found_with_few_traces():
    posterior = guided(programs.gum, programs.GUM_DATA, 2000, gum_network(), seed=1)
    means = posterior.map(lambda trace: trace["mu"])
    assert posterior.effective_sample_size > 0.6 * 2000
    # Four standard errors, from the effective sample size; that of a standard deviation is sd / sqrt(2 ESS).
    error = programs.GUM_STDDEV / math.sqrt(posterior.effective_sample_size)
    assert abs(means.mean - programs.GUM_MEAN) < 4.0 * error
    assert abs(means.stddev - programs.GUM_STDDEV) < 4.0 * error / math.sqrt(2.0)
    relative = math.sqrt(1.0 / posterior.effective_sample_size - 1.0 / 2000)
    assert abs(posterior.log_evidence - programs.GUM_LOG_EVIDENCE) < 4.0 * relative


def independent():
    """Draws of every family beside data that knows nothing of them."""
    for name, distribution in {**FAMILIES, **VECTORS}.items():
        ppl.sample(distribution, name=name)
    ppl.observe(dist.Normal(0.0, 1.0), name="y")


@pytest.mark.parametrize(
    "core", [FeedForward(8, 1), pytest.param(LSTM(8), marks=pytest.mark.slow)], ids=["feedforward", "lstm"]
)
def test_weights_are_exact_for_every_family(core):
    network = untrained(independent, core)
    posterior = guided(independent, {"y": 0.0}, 600, network, seed=2)
    ratios = np.exp(posterior.log_weights + 0.5 * math.log(2.0 * math.pi))
    # Prior over proposal has expectation 1: four standard errors.
    assert abs(ratios.mean() - 1.0) < 4.0 * ratios.std() / math.sqrt(600)
    for name, distribution in FAMILIES.items():
        if name in ("VonMises",):
            continue
        values = np.array([trace[name] for trace in posterior.values], float)
        terms = ratios * (values - distribution.mean)
        assert abs(terms.mean()) < 4.5 * terms.std() / math.sqrt(600), name
    joint = np.array([trace["joint"] for trace in posterior.values])
    terms = ratios * (joint[:, 0] - 1.0) * (joint[:, 1] + 1.0) - 2.4  # the covariance, 2.0 * 1.2
    assert abs(terms.mean()) < 4.5 * terms.std() / math.sqrt(600)
    assert posterior[0]["choices"].dtype == np.int64
    assert type(posterior[0]["Poisson"]) is int


def test_weights_are_exact_for_shares_counts_and_heavy_tails():
    """Means of bounded functions of what is drawn: quantiles' indicators, shares and counts."""
    network = untrained(more, FeedForward(8, 1))
    posterior = guided(more, {"y": 0.0}, 600, network, seed=2)
    ratios = np.exp(posterior.log_weights + 0.5 * math.log(2.0 * math.pi))
    assert abs(ratios.mean() - 1.0) < 4.0 * ratios.std() / math.sqrt(600)
    fresh = ppl.prior(more, 3_000, seed=3, backend="host", progress=False).values
    for name in MORE:
        values, others = (np.array(traces.column(name), float) for traces in (posterior.values, fresh))
        middle = np.median(others)
        terms = ratios * ((values <= middle) - np.mean(others <= middle))
        assert abs(terms.mean()) < 4.5 * terms.std() / math.sqrt(600) + 0.037, name  # four errors of 3,000 draws
    for name, distribution in SHARES.items():
        terms = ratios[:, None] * (np.array(posterior.values.column(name)) - distribution.mean)
        assert np.all(np.abs(terms.mean(axis=0)) <= 4.5 * terms.std(axis=0) / math.sqrt(600) + 1e-12), name
        assert np.isfinite(distribution.log_prob(np.array(posterior.values.column(name)))).all()
    assert posterior[0]["votes"].dtype == np.int64 and posterior[0]["votes"].sum() == 20


# -- what it does not depend on ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "core", [LSTM(8), pytest.param(Transformer(8, 1, 2, 8), marks=pytest.mark.slow)], ids=["lstm", "transformer"]
)
def test_results_do_not_depend_on_the_lockstep_width(core):
    network = untrained(programs.gum_marsaglia, core)
    model, data = programs.gum_marsaglia, programs.GUM_DATA
    runs = [guided(model, data, 300, network, seed=3, lockstep=width) for width in (1, 9, 100, 300)]
    for other in runs[1:]:
        np.testing.assert_array_equal(other.log_weights, runs[0].log_weights)
        assert [trace.result for trace in other.values] == [trace.result for trace in runs[0].values]
    fewer = guided(model, data, 70, network, seed=3)
    np.testing.assert_array_equal(fewer.log_weights, runs[0].log_weights[:70])
    other = guided(model, data, 70, network, seed=4)
    assert (other.log_weights != fewer.log_weights).all()


def test_a_trace_keeps_its_weight_and_its_densities():
    posterior = guided(programs.gum, programs.GUM_DATA, 20, gum_network(), seed=5)
    for trace, log_weight in zip(posterior.values, posterior.log_weights, strict=True):
        assert trace.log_importance_weight == log_weight
        assert trace.log_joint == pytest.approx(trace.log_prob + trace.log_likelihood)


# -- falling back to the prior -----------------------------------------------------------------------------------------


def test_untrained_call_sites_are_drawn_from_the_prior():
    network = replace(gum_network(), least_visits=10**9)
    posterior = guided(programs.gum, programs.GUM_DATA, 50, network, seed=6)
    plain = ppl.importance_sampling(programs.gum, programs.GUM_DATA, 50, seed=6, progress=False)
    np.testing.assert_array_equal(posterior.log_weights, plain.log_weights)


def longer():
    """GUM with another latent, which a network of GUM does not know."""
    programs.gum()
    ppl.sample(dist.Normal(0.0, 1.0), name="other", address="elsewhere")


def inside_gum():
    """Calls ``longer`` from an address of its own."""
    longer()


def test_unknown_call_sites_are_drawn_from_the_prior_and_told():
    network = untrained(longer, FeedForward(8, 1))
    network = replace(network, sites=CallSites(site for site in network.sites.known if site[0] != "elsewhere"))
    with pytest.warns(UserWarning, match=r"no proposals for 50 % of the controlled draws.*'other' at elsewhere.*unkn"):
        posterior = guided(longer, programs.GUM_DATA, 50, network, seed=6)
    others = posterior.map("other").values
    assert stats.kstest(others, "norm").pvalue > 1e-3


def test_a_network_of_another_program_is_refused():
    """It knows no call site of this one, so that the prior would propose all of it."""
    message = r"none of the 2 call sites.*'mu' at test_compiled:inside_gum.*trained on are others \(programs:gum.*Train"
    with pytest.raises(NetworkError, match=message):
        guided(inside_gum, programs.GUM_DATA, 30, gum_network())


def test_a_latent_of_another_family_than_in_training_is_told():
    def model(prior):
        a = ppl.sample(dist.Normal(0.0, 1.0), name="a", address="a")
        b = ppl.sample(prior, name="b", address="b")
        ppl.observe(dist.Normal(a + b, 1.0), name="y")

    network = untrained(lambda: model(dist.Normal(0.0, 1.0)), FeedForward(8, 1))
    with pytest.warns(UserWarning, match=r"50 % .*'b' at b .*30 times, now of Gamma, in training of Normal"):
        guided(lambda: model(dist.Gamma(2.0, 1.0)), {"y": 1.0}, 30, network)


def test_draws_beyond_what_was_trained_are_drawn_from_the_prior():
    def model(categories):
        k = ppl.sample(dist.Categorical(np.ones(categories)), name="k", address="k")
        rate = ppl.sample(dist.Poisson(0.0), name="none", address="n")
        ppl.observe(dist.Normal(k + rate, 1.0), name="y")

    network = untrained(lambda: model(3), FeedForward(8, 1))
    posterior = guided(lambda: model(90), {"y": 40.0}, 400, network, seed=7)
    exact = np.exp(-0.5 * np.square(np.arange(90) - 40.0)).sum() / 90.0 / math.sqrt(2.0 * math.pi)
    error = posterior.weights.std() / posterior.weights.mean() / math.sqrt(400)
    assert abs(posterior.log_evidence - math.log(exact)) < 4.0 * error


def test_the_users_own_proposals_and_nuisance_draws_are_respected():
    def model():
        ppl.sample(dist.Normal(0.0, 1.0), name="nuisance", control=False)
        with ppl.handlers.propose(proposal=lambda site: dist.Normal(7.0, 1.0)):
            mu = ppl.sample(dist.Normal(1.0, math.sqrt(5.0)), name="mu")
        ppl.observe(dist.Normal(mu, math.sqrt(2.0)), name="obs0")
        ppl.observe(dist.Normal(mu, math.sqrt(2.0)), name="obs1")

    posterior = guided(model, programs.GUM_DATA, 400, untrained(model, FeedForward(8, 1)), seed=8)
    proposals = [site.proposal for site in posterior[0].sites]
    assert proposals[:2] == [None, dist.Normal(7.0, 1.0)]
    relative = math.sqrt(1.0 / posterior.effective_sample_size - 1.0 / 400)
    assert abs(posterior.log_evidence - programs.GUM_LOG_EVIDENCE) < 4.0 * relative


# -- bad input and bad luck --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"obs0": 8.0}, "'obs1' is not given"),
        ({"obs0": 8.0, "obs1": 9.0, "mu": 1.0}, "'mu' is unknown to it"),
        ({"obs0": 8.0, "obs1": [9.0, 9.0]}, r"'obs1' of shape \(\), but a value of shape \(2,\)"),
    ],
)
def test_a_network_of_other_observations_is_refused(data, message):
    with pytest.raises(NetworkError, match=message):
        guided(programs.gum, data, 10, gum_network())


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"lockstep": 0}, ValueError, "lockstep must be an integer of at least 1"),
        ({"prior_inflation": 2.0}, ValueError, "a network has proposals of its own"),
        ({"num_workers": 2}, ValueError, "leave num_workers at 1"),
        ({"backend": "jax"}, ValueError, "backend at 'auto' or 'host'"),
        ({"proposal": 3.0}, TypeError, "proposal must be a network from ppl_jax.train"),
    ],
)
def test_wrong_arguments_are_refused(settings, error, message):
    arguments = {"proposal": gum_network(), "num_traces": 10, "progress": False, **settings}
    with pytest.raises(error, match=message):
        ppl.importance_sampling(programs.gum, programs.GUM_DATA, **arguments)


def failing(after):
    calls = []

    def model():
        calls.append(1)
        if len(calls) == after:
            raise RuntimeError("the simulator failed")
        return programs.gum()

    return model


def test_an_error_of_the_model_names_it_and_keeps_what_was_finished():
    network = untrained(failing(0), FeedForward(8, 1))
    with pytest.raises(ppl.ModelError, match=r"the simulator failed.*execution 59 of seed 9") as caught:
        guided(failing(60), programs.GUM_DATA, 100, network, seed=9, lockstep=10)
    assert len(caught.value.finished) >= 40


def test_an_interrupted_run_returns_what_was_finished(monkeypatch):
    advance, calls = Lockstep._advance, []

    def interrupted(self, *arguments):
        calls.append(1)
        if len(calls) == 25:
            raise KeyboardInterrupt
        return advance(self, *arguments)

    monkeypatch.setattr(Lockstep, "_advance", interrupted)
    with pytest.warns(ppl.InterruptedRunWarning):
        posterior = guided(programs.gum, programs.GUM_DATA, 100, gum_network(), seed=9, lockstep=10)
    assert 10 <= len(posterior) < 100


def test_a_model_without_latents_is_only_weighed():
    def model():
        ppl.observe(dist.Normal(0.0, 1.0), name="obs0")
        ppl.observe(dist.Normal(0.0, 1.0), name="obs1")

    posterior = guided(model, programs.GUM_DATA, 5, gum_network())
    assert len(posterior) == 5


def test_a_network_on_disk_gives_the_same_results(tmp_path):
    network = gum_network()
    network.save(tmp_path / "network")
    first = guided(programs.gum, programs.GUM_DATA, 30, network, seed=1)
    again = guided(programs.gum, programs.GUM_DATA, 30, ppl.load_network(tmp_path / "network"), seed=1)
    np.testing.assert_array_equal(first.log_weights, again.log_weights)
