"""Handlers: each alone, as a function of a model and as a context manager, and together."""

import math

import numpy as np
import numpyro.distributions as npd
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


@pytest.mark.parametrize(
    ("proposal", "message"),
    [
        (3.0, "sample site 'mu' at programs:gum.*the proposal is 3.0, which is no distribution.*or None"),
        (dist.Normal([0.0, 1.0], 1.0), r"has shape \(2,\), but Normal.* has shape \(\)"),
        (dist.Poisson(3.0), "is discrete, but Normal.* is continuous"),
    ],
)
def test_a_proposal_of_another_sort_is_refused(proposal, message):
    """A vector for a scalar would be weighed by a sum over its elements, and nobody would notice."""
    with pytest.raises(ppl.PPLError, match=message):
        ppl.importance_sampling(gum, GUM_DATA, 10, proposal=lambda site: proposal, seed=0, progress=False)


def test_a_proposal_is_not_thrown_away_for_an_inflated_prior():
    with pytest.raises(ValueError, match="another is given"):
        ppl.importance_sampling(
            gum, GUM_DATA, 10, proposal=lambda site: dist.Normal(7.0, 1.0), prior_inflation=2.0, progress=False
        )


def test_a_distribution_of_numpyro_may_be_the_proposal():
    ours, theirs = (
        ppl.importance_sampling(gum, GUM_DATA, 20, proposal=lambda site, q=q: q, seed=0, progress=False)
        for q in (dist.Normal(7.0, 1.0), npd.Normal(7.0, 1.0))
    )
    assert np.array_equal(ours.log_weights, theirs.log_weights)


def test_inflate_needs_a_scale_of_at_least_one():
    with pytest.raises(ValueError, match="at least 1"):
        handlers.inflate(gum, scale=0.5)
    with pytest.raises(ValueError, match="at least 1, got inf"):
        ppl.importance_sampling(gum, GUM_DATA, 5, prior_inflation=math.inf, progress=False)


def test_a_handler_without_a_model_says_so():
    with pytest.raises(ppl.PPLError, match="without a model"):
        handlers.seed(seed=0)()


# -- every handler in both forms, and together -------------------------------------------------------------------------


def two_draws():
    a = ppl.sample(dist.Normal(0.0, 1.0), name="a")
    b = ppl.sample(dist.Normal(a, 1.0), name="b")
    ppl.observe(dist.Normal(b, 1.0), 0.5, name="y")
    return a, b


EARLIER = handlers.trace(handlers.seed(two_draws, seed=77)).get_trace()
BOTH_FORMS = {
    "seed": {"handler": handlers.seed, "seed": 5},
    "trace": {"handler": handlers.trace},
    "condition": {"handler": handlers.condition, "data": {"a": 0.3, "y": 2.0}},
    "substitute": {"handler": handlers.substitute, "data": {"b": 0.3}},
    "replay": {"handler": handlers.replay, "trace": EARLIER},
    "block": {"handler": handlers.block, "hide": ["a"]},
    "control": {"handler": handlers.control, "on": ["b"]},
    "propose": {"handler": handlers.propose, "proposal": lambda site: dist.Normal(0.5, 0.5)},
    "inflate": {"handler": handlers.inflate, "scale": 2.0},
}


def facts(trace):
    return [
        (s.kind, s.name, s.address, s.instance, s.value, s.control, s.observed, s.proposal, s.log_weight)
        for s in trace.sites
    ]


@pytest.mark.parametrize("name", BOTH_FORMS)
def test_both_forms_of_a_handler_do_the_same(name):
    """Around the model, in a with statement, and around an engine: one execution of (seed, index) = (1, 0)."""
    settings = dict(BOTH_FORMS[name])
    handler = settings.pop("handler")
    around = handlers.trace(handlers.seed(handler(two_draws, **settings), seed=1)).get_trace()
    with handlers.trace() as recorder, handlers.seed(seed=1), handler(**settings):
        result = two_draws()
    assert facts(recorder.trace) == facts(around)
    assert result == around.result
    engine = ppl.importance_sampling(handler(two_draws, **settings), num_traces=1, seed=1, progress=False)[0]
    with handler(**settings):
        outside = ppl.importance_sampling(two_draws, num_traces=1, seed=1, progress=False)[0]
    assert facts(engine) == facts(outside)
    if name != "seed":  # which of two seeds counts is the inner one's
        assert facts(engine) == facts(around)
    assert engine.log_importance_weight == pytest.approx(sum(site.log_weight for site in engine.sites), abs=1e-12)


def test_all_exported_handlers_are_tested_in_both_forms():
    made = {name for name, value in vars(handlers).items() if isinstance(value, type) and name[0].islower()}
    assert made == set(BOTH_FORMS)


def test_handlers_are_values():
    handler = handlers.condition(gum, data={"mu": 1.0})
    with pytest.raises(AttributeError):
        handler.data = {}
    assert handler.model is gum


def test_arguments_reach_the_model_through_handlers():
    def model(loc, *, scale):
        return ppl.sample(dist.Normal(loc, scale), name="x")

    handled = handlers.seed(handlers.block(handlers.condition(model, data={"x": 1.5})), seed=0)
    assert handled(0.0, scale=2.0) == 1.5
    assert handlers.trace(handlers.seed(model, seed=0)).get_trace(100.0, scale=1e-3)["x"] == pytest.approx(100, abs=1)


@pytest.mark.parametrize(("hide", "left"), [
    (None, []), ("a", ["b", "y"]), (["a", "y"], ["b"]), (lambda site: site.kind == "observe", ["a", "b"]),
])  # fmt: skip
def test_what_block_hides(hide, left):
    trace = handlers.trace(handlers.seed(handlers.block(two_draws, hide=hide), seed=1)).get_trace()
    assert [site.name for site in trace.sites] == left


def test_blocked_sites_are_not_scored_moved_or_conditioned_on():
    blocked = handlers.block(two_draws, hide=["a"])
    posterior = ppl.importance_sampling(blocked, {"b": 1.0}, 50, seed=1, progress=False)
    assert {trace["b"] for trace in posterior} == {1.0}
    assert all("a" not in trace for trace in posterior)
    with pytest.raises(ppl.UnknownObservationError, match="'a'"):
        ppl.importance_sampling(blocked, {"a": 1.0}, 1, seed=1, progress=False)
    chain = ppl.metropolis_hastings(blocked, num_traces=200, burn_in=0, seed=1, progress=False)
    assert chain[0].names == ["b", "y"]


def test_block_inside_a_model_hides_from_the_engine():
    def model():
        with handlers.block():
            hidden = ppl.sample(dist.Normal(0.0, 1.0), name="hidden")
        return ppl.sample(dist.Normal(hidden, 1.0), name="x")

    prior = ppl.prior(model, 4000, seed=1, backend="host", progress=False)
    assert prior[0].names == ["x"]
    assert prior.map("x").stddev == pytest.approx(np.sqrt(2.0), abs=4 * np.sqrt(2.0 / 8000))


def test_inflation_of_some_names_leaves_the_others():
    inflated = ppl.prior(handlers.inflate(two_draws, scale=3.0, names=["a"]), 3, seed=1, progress=False)
    for trace in inflated:
        a, b, _ = trace.sites
        assert a.proposal == dist.Normal(0.0, 3.0) and b.proposal is None
        expected = dist.Normal(0.0, 1.0).log_prob(a.value) - dist.Normal(0.0, 3.0).log_prob(a.value)
        assert trace.log_importance_weight == pytest.approx(expected, abs=1e-12)


def test_inflation_weighs_discrete_and_bounded_draws_too():
    """Weighted means under inflation are those of the prior, for every family that can be inflated."""
    families = {
        "bernoulli": dist.Bernoulli(0.05),
        "categorical": dist.Categorical([0.9, 0.08, 0.02]),
        "exponential": dist.Exponential(2.0),
        "log_normal": dist.LogNormal(0.0, 0.5),
        "truncated": dist.TruncatedNormal(0.0, 1.0, -1.0, 2.0),
        "angle": dist.VonMises(0.0, 4.0),
        "mixture": dist.Mixture([0.5, 0.5], [dist.Normal(-1.0, 0.5), dist.Normal(1.0, 0.5)]),
    }

    def model():
        for name, family in families.items():
            ppl.sample(family, name=name)

    for name, family in families.items():
        inflated = ppl.prior(handlers.inflate(model, scale=2.0, names=[name]), 2500, seed=3, progress=False)
        values = np.asarray(inflated.map(name).values)
        weights = np.exp(inflated.log_weights)
        assert any(trace.sites[list(families).index(name)].proposal != family for trace in inflated[:1])
        error = (weights * (values - family.mean)).std() / np.sqrt(len(values))
        assert np.mean(weights * (values - family.mean)) == pytest.approx(0.0, abs=4 * error), name
        assert np.mean(weights) == pytest.approx(1.0, abs=4 * weights.std() / np.sqrt(len(values))), name


def test_replay_of_another_structure_reuses_what_fits():
    def model(kind):
        x = ppl.sample(dist.Normal(0.0, 1.0), name="x") if kind else ppl.sample(dist.Gamma(1.0, 1.0), name="x")
        family = dist.Normal(0.0, 1.0) if kind else dist.Exponential(1.0)
        return x, ppl.sample(family, name="y", address="y"), ppl.sample(dist.Poisson(9.0), name="n")

    trace = handlers.trace(handlers.seed(model, seed=2)).get_trace(True)
    x, y, n = handlers.seed(handlers.replay(model, trace=trace), seed=3)(False)
    assert x != trace["x"] and y != trace["y"]  # another statement; another family at the same address
    assert n == trace["n"]


def test_data_of_a_handler_are_checked_at_the_site():
    with pytest.raises(ppl.ObservationError, match=r"'a' at test_handlers:two_draws:1:8.*shape \(2,\)"):
        handlers.condition(two_draws, data={"a": [1.0, 2.0]})()
    with pytest.raises(ppl.ObservationError, match=r"'b'.*NaN"):
        handlers.condition(two_draws, data={"b": float("nan")})()
    with pytest.raises(ppl.ObservationError, match=r"'a'.*is text, not a number"):
        handlers.substitute(two_draws, data={"a": "much"})()
    with pytest.raises(ppl.PPLError, match="get_trace needs a model"):
        handlers.trace().get_trace()


def test_an_error_in_a_with_statement_leaves_no_handler_behind():
    with pytest.raises(ZeroDivisionError), handlers.condition(data={"a": 1.0}):
        1 / 0  # noqa: B018
    assert two_draws()[0] != 1.0
    with pytest.raises(ZeroDivisionError):
        handlers.condition(lambda: 1 / 0, data={"a": 1.0})()
    assert two_draws()[0] != 1.0
