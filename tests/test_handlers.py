"""Handlers: each alone, as a function of a model and as a context manager, and together."""

import numpy as np
import pytest
from programs import GUM_DATA, GUM_MEAN, GUM_STDDEV, gum

import ppl_jax as ppl
import ppl_jax.distributions as dist
from ppl_jax import handlers


def test_seed_makes_a_model_repeat_itself():
    assert handlers.seed(gum, seed=1)() == handlers.seed(gum, seed=1)()
    assert handlers.seed(gum, seed=1)() != handlers.seed(gum, seed=2)()
    assert handlers.seed(gum, seed=1)() != handlers.seed(gum, seed=1, index=1)()
    with handlers.seed(seed=1):
        first = gum()
    assert first == handlers.seed(gum, seed=1)()


def test_seed_repeats_the_execution_of_an_engine():
    posterior = ppl.prior(gum, 5, seed=11, progress=False)
    assert handlers.seed(gum, seed=11, index=3)() == posterior[3].result


def test_trace_as_context_manager():
    with handlers.seed(seed=0), handlers.trace() as recorder:
        mu = gum()
    assert recorder.trace["mu"] == mu
    assert len(recorder.trace) == 3


def test_condition_turns_draws_into_observations():
    trace = handlers.trace(handlers.condition(gum, data={"mu": 2.0, **GUM_DATA})).get_trace()
    assert all(site.observed for site in trace.sites)
    assert trace["obs1"] == 9.0
    assert trace.log_prob == 0.0


def test_substitute_fixes_latents_and_keeps_them_latent():
    trace = handlers.trace(handlers.substitute(gum, data={"mu": 2.0})).get_trace()
    assert trace["mu"] == 2.0
    assert trace.sites[0].is_latent
    with pytest.raises(ppl.SupportError, match="'u'"):
        handlers.substitute(lambda: ppl.sample(dist.Uniform(0.0, 1.0), name="u"), data={"u": 2.0})()


def test_replay_repeats_a_trace_and_draws_what_is_new():
    def model(length):
        return [ppl.sample(dist.Normal(0.0, 1.0)) for _ in range(length)]

    trace = handlers.trace(handlers.seed(model, seed=5)).get_trace(3)
    replayed = handlers.replay(model, trace=trace)
    assert replayed(3) == trace.result
    longer = replayed(4)
    assert longer[:3] == trace.result


def test_replay_around_an_engine_applies_to_every_execution():
    trace = handlers.trace(handlers.seed(gum, seed=5)).get_trace()
    with handlers.replay(trace=trace):
        posterior = ppl.prior(gum, 5, seed=1, progress=False)
    assert {one["mu"] for one in posterior} == {trace["mu"]}


def test_block_hides_sites():
    blocked = handlers.block(gum, hide=["mu"])
    trace = handlers.trace(handlers.seed(blocked, seed=0)).get_trace()
    assert [site.name for site in trace.sites] == ["obs0", "obs1"]


def test_control_says_what_engines_may_move():
    def model():
        ppl.sample(dist.Normal(0.0, 1.0), name="a")
        ppl.sample(dist.Normal(0.0, 1.0), name="b")

    trace = handlers.trace(handlers.control(model, on=["b"])).get_trace()
    assert [site.name for site in trace.controlled] == ["b"]


def test_handlers_compose_inside_out():
    inner = handlers.condition(gum, data={"mu": 1.0})
    outer = handlers.condition(inner, data={"mu": 2.0})
    assert handlers.trace(outer).get_trace()["mu"] == 2.0  # the outer one has the last word


@pytest.mark.parametrize("scale", [1.5, 3.0])
def test_inflation_keeps_the_posterior(scale):
    posterior = ppl.importance_sampling(
        gum, GUM_DATA, 20_000, prior_inflation=scale, seed=4, backend="host", progress=False
    ).map("mu")
    tolerance = 5 * GUM_STDDEV / np.sqrt(posterior.effective_sample_size)
    assert posterior.mean == pytest.approx(GUM_MEAN, abs=tolerance)
    assert posterior.stddev == pytest.approx(GUM_STDDEV, abs=tolerance)


def test_inflation_finds_rare_events():
    """P(x > 5) = 2.87e-7 for a standard normal: no plain prior draw in 10,000 gets there."""

    def model():
        x = ppl.sample(dist.Normal(0.0, 1.0), name="x")
        ppl.tag(x > 5.0, name="rare")
        return x

    inflated = ppl.prior(handlers.inflate(model, scale=4.0), 20_000, seed=1, backend="host", progress=False)
    weights = np.exp(inflated.log_weights)
    hits = np.array([trace["rare"] for trace in inflated])
    estimates = weights * hits
    exact = 2.866515718791933e-07
    error = estimates.std() / np.sqrt(len(estimates))
    assert error < 0.1 * exact
    assert estimates.mean() == pytest.approx(exact, abs=4 * error)


def test_proposals_are_corrected_for():
    posterior = ppl.importance_sampling(
        gum, GUM_DATA, 5000, proposal=lambda site: dist.Normal(7.0, 1.2), seed=1, backend="host", progress=False
    )
    assert posterior.effective_sample_size > 3500
    mu = posterior.map("mu")
    assert mu.mean == pytest.approx(GUM_MEAN, abs=5 * GUM_STDDEV / np.sqrt(posterior.effective_sample_size))
    for trace in posterior[:10]:
        assert trace.sites[0].proposal == dist.Normal(7.0, 1.2)
        assert trace.log_importance_weight == pytest.approx(sum(site.log_weight for site in trace.sites), abs=1e-9)


def test_inflate_needs_a_scale_of_at_least_one():
    with pytest.raises(ValueError, match="at least 1"):
        handlers.inflate(gum, scale=0.5)()


def test_a_handler_without_a_model_says_so():
    with pytest.raises(ppl.PPLError, match="without a model"):
        handlers.seed(seed=0)()
