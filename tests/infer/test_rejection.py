"""Rejection scopes under a network: weights against exact answers, what they need, and what they do not depend on.

Weighted sums are compared with exact numbers within four standard errors, taken from the spread of their terms.
"""

import itertools
import math
import signal
from functools import partial

import numpy as np
import pytest
from infer import scoped_programs as programs
from infer.scoped_programs import by_hand, silent, untrained
from scipy import stats

import ppl_jax as ppl
import ppl_jax.distributions as dist
from ppl_jax import handlers
from ppl_jax.infer.guided.amortized_rejection import Steered
from ppl_jax.infer.guided.evaluator import Evaluator
from ppl_jax.nn import LSTM, Transformer


def guided(model, data, number, network, **settings):
    return ppl.importance_sampling(model, data, number, proposal=network, progress=False, **settings)


def deviations(posterior, evidence, mean):
    """Evidence and posterior mean of what the model returns less the exact ones, in standard errors."""
    weights = np.exp(posterior.log_weights)
    values = np.array([float(trace.result) for trace in posterior.values])
    terms = weights * (values - mean)
    root = math.sqrt(len(weights))
    return (weights.mean() - evidence) / weights.std() * root, terms.mean() / terms.std() * root


def check(posterior, evidence, mean):
    assert np.abs(deviations(posterior, evidence, mean)).max() < 4.0


# -- against exact answers ---------------------------------------------------------------------------------------------

# Level of truncation, and the proposal's mean in standard deviations of the prior, its own being 1. The sum over
# rejected z of (p / q)**2 is exp(m**2) * Phi(level + m): weights of all passes have finite variance in the first case
# (0.27), and infinite variance in the others (2.3, 19, 96).
LEVELS = [(-1.0, 0.3), (0.0, 1.0), (1.0, 1.7), (1.5, 2.1)]
DEEP = [pytest.param(*level, marks=pytest.mark.slow) for level in LEVELS[2:]]


def test_the_levels_are_on_both_sides_of_infinite_variance():
    sums = [math.exp(m * m) * stats.norm.cdf(level + m) for level, m in LEVELS]
    assert sums[0] < 1.0 < min(sums[1:])


@pytest.mark.parametrize(("level", "location"), [*LEVELS[:2], *DEEP])
def test_a_truncated_gaussian_under_a_proposal_of_the_program(level, location):
    y = level + 1.0
    model = programs.truncated(level, dist.Normal(location, 1.0))
    posterior = guided(model, {"y": y}, 800, silent(model), seed=1)
    check(posterior, *programs.truncated_posterior(level, y))
    for trace in posterior[:50]:
        assert [(site.name, site.instance) for site in trace.sites] == [("z", 1), ("y", 1)]
        assert trace["z"] > level


@pytest.mark.parametrize(
    ("level", "location", "prior_share"),
    [
        (*LEVELS[0], 0.4),
        (*LEVELS[1], 0.0),
        *(
            pytest.param(*level, share, marks=pytest.mark.slow)
            for level, share in itertools.product(LEVELS, (0.0, 0.4))
            if (level, share) not in ((LEVELS[0], 0.4), (LEVELS[1], 0.0))
        ),
    ],
)
def test_a_truncated_gaussian_under_a_network(level, location, prior_share):
    """With a share of the prior the proposal may be as narrow as it likes."""
    y = level + 1.0
    model = programs.truncated(level)
    network = by_hand(model, location, 0.4 if prior_share else 1.0, prior_share)
    check(guided(model, {"y": y}, 800, network, seed=2), *programs.truncated_posterior(level, y))


def test_an_acceptance_that_depends_on_what_came_before():
    network = by_hand(programs.truncated_with_mean, 0.5, 1.1)
    posterior = guided(programs.truncated_with_mean, {"y": 1.2}, 800, network, seed=3)
    check(posterior, *programs.truncated_with_mean_posterior(1.2))


@pytest.mark.parametrize("data", [(0.0, 0.0), pytest.param((-1.0, -1.0), marks=pytest.mark.slow)])
def test_marsaglia_against_quadrature(data):
    data = dict(zip(("obs0", "obs1"), data, strict=True))
    evidence, mean = programs.marsaglia_posterior(data)
    exact = stats.multivariate_normal.logpdf([*data.values()], [1.0, 1.0], [[7.0, 5.0], [5.0, 7.0]])
    assert math.log(evidence) == pytest.approx(exact, abs=1e-5)
    check(guided(programs.marsaglia, data, 600, untrained(programs.marsaglia, components=3), seed=4), evidence, mean)


def test_nested_loops():
    posterior = guided(programs.nested, {"data": 2.5}, 500, silent(programs.nested), seed=5)
    check(posterior, *programs.nested_posterior(2.5))
    assert {len(trace.sites) for trace in posterior} == {3, 4}


@pytest.mark.slow
def test_several_loops_of_one_scope():
    """Two loops of one address one behind the other: the sum of two truncated normals, by quadrature."""

    def model():
        total = 0.0
        for _ in range(2):
            with ppl.rejection_scope() as scope:
                while (z := ppl.sample(dist.Normal(0.0, 1.0), name="z")) < 0.5:
                    scope.reject()
            total += z
        ppl.observe(dist.Normal(total, 1.0), name="y")
        return total

    z = 0.5 + (np.arange(2000) + 0.5) * 0.004
    density = stats.norm.pdf(z) / stats.norm.sf(0.5) * 0.004
    joint = density[:, None] * density * stats.norm.pdf(3.0, z[:, None] + z, 1.0)
    evidence, mean = joint.sum(), ((z[:, None] + z) * joint).sum() / joint.sum()
    posterior = guided(model, {"y": 3.0}, 600, by_hand(model, 1.0, 1.0), seed=6)
    check(posterior, evidence, mean)
    assert [(site.name, site.instance) for site in posterior[0].latents] == [("z", 1), ("z", 2)]


def test_vector_draws_in_a_scope():
    """z ~ Normal(0, 1) in two dimensions, given that its elements' sum is positive: the sum is a half-normal."""

    def model():
        with ppl.rejection_scope() as scope:
            while (z := ppl.sample(dist.Normal([0.0, 0.0], [1.0, 1.0]), name="z")).sum() < 0.0:
                scope.reject()
        ppl.observe(dist.Normal(z.sum(), 1.0), name="y")
        return float(z.sum())

    s = (np.arange(40_000) + 0.5) * 0.0004
    joint = 2.0 * stats.norm.pdf(s, 0.0, math.sqrt(2.0)) * stats.norm.pdf(1.0, s, 1.0) * 0.0004
    posterior = guided(model, {"y": 1.0}, 600, by_hand(model, 0.4, 1.0), seed=7)
    check(posterior, joint.sum(), (s * joint).sum() / joint.sum())


def test_draws_that_are_hidden_from_the_engine():
    """The level of truncation is drawn by a coin that nobody sees; a pass that is run again must find it as it was."""

    def model():
        with handlers.block():
            coin = ppl.sample(dist.Bernoulli(0.5))
        with ppl.rejection_scope() as scope:
            while (z := ppl.sample(dist.Normal(0.0, 1.0), name="z")) < (1.0 if coin else -1.0):
                scope.reject()
        ppl.observe(dist.Normal(z, programs.NOISE), name="y")
        return z

    both = np.array([programs.truncated_posterior(level, 1.5) for level in (1.0, -1.0)])
    evidence = both[:, 0].mean()
    mean = (both[:, 0] * both[:, 1]).sum() / both[:, 0].sum()
    check(guided(model, {"y": 1.5}, 800, by_hand(model, 0.8, 1.0), seed=8), evidence, mean)


@pytest.mark.slow
def test_the_evidence_is_unbiased_in_short_runs_too():
    """The mean over 40 runs of 25 traces within four standard errors of their spread; runs scatter as they say."""
    level, y = 0.0, 1.0
    evidence, _ = programs.truncated_posterior(level, y)
    model = programs.truncated(level)
    network = by_hand(model, 1.0, 1.0)
    runs = np.array([np.exp(guided(model, {"y": y}, 25, network, seed=seed).log_evidence) for seed in range(40)])
    assert abs(runs.mean() - evidence) < 4.0 * runs.std(ddof=1) / math.sqrt(40)
    assert runs.std(ddof=1) < 0.5 * evidence


def test_without_the_correction_the_evidence_is_wrong(monkeypatch):
    """So that the tests above can fail: by q(A) / p(A), here Phi(1) / Phi(0)."""
    monkeypatch.setattr(Steered, "_log_correction", lambda self, number: 0.0)
    evidence, mean = programs.truncated_posterior(0.0, 1.0)
    model = programs.truncated(0.0)
    posterior = guided(model, {"y": 1.0}, 800, by_hand(model, 1.0, 1.0), seed=2)
    assert deviations(posterior, evidence, mean)[0] < -10.0
    ratio = stats.norm.cdf(1.0) / stats.norm.cdf(0.0)
    assert abs(deviations(posterior, evidence / ratio, mean)[0]) < 4.0


@pytest.mark.slow
def test_weights_of_all_passes_fail_where_those_of_the_accepted_one_do_not():
    """The weights that proposals within a loop get without a network are those of all passes.

    Of infinite variance, their effective sample size falls as traces are added and one of them has most of the weight.
    """
    y, model = 1.0, programs.truncated(0.0, dist.Normal(2.0, 1.0))
    naive = ppl.importance_sampling(model, {"y": y}, 16_000, seed=2, backend="host", progress=False)
    amortized = guided(model, {"y": y}, 4000, silent(model), seed=2)
    check(amortized, *programs.truncated_posterior(0.0, y))
    assert amortized.effective_sample_size / 4000 > 0.15
    assert naive.effective_sample_size / 16_000 < 0.02
    assert amortized.weights.max() < 0.01 < 0.05 < naive.weights.max()


@pytest.mark.slow
@pytest.mark.parametrize("number", [1, 3, 30])
def test_any_number_of_fresh_loops_is_unbiased(number):
    model = programs.truncated(0.0)
    posterior = guided(model, {"y": 1.0}, 3000, by_hand(model, 1.0, 1.0), seed=9, fresh_loops=number)
    check(posterior, *programs.truncated_posterior(0.0, 1.0))


@pytest.mark.slow
def test_more_fresh_loops_make_the_weights_less_noisy():
    model = programs.truncated(0.0)
    network = by_hand(model, 1.0, 1.0)
    sizes = [
        guided(model, {"y": 1.0}, 1500, network, seed=10, fresh_loops=number).effective_sample_size
        for number in (1, 10, 100)
    ]
    assert sizes[0] < 0.8 * sizes[1] < sizes[1] < sizes[2]


# -- what is left to the prior -----------------------------------------------------------------------------------------


def uncontrolled():
    with ppl.rejection_scope(control=False) as scope:
        while (z := ppl.sample(dist.Normal(0.0, 1.0), name="z")) < 0.5:
            scope.reject()
    ppl.observe(dist.Normal(z, 1.0), name="y")
    return z


@pytest.mark.parametrize("how", ["control", "no fresh loops"])
def test_draws_that_are_left_to_the_prior_weigh_nothing(how):
    """The very draws and weights of importance sampling from the prior."""
    model, settings = (uncontrolled, {}) if how == "control" else (programs.truncated(0.5), {"fresh_loops": 0})
    network = by_hand(programs.truncated(0.5), 1.0, 1.0)
    posterior = guided(model, {"y": 1.0}, 100, network, seed=11, **settings)
    plain = ppl.importance_sampling(model, {"y": 1.0}, 100, seed=11, backend="host", progress=False)
    np.testing.assert_array_equal(posterior.log_weights, plain.log_weights)
    assert [trace.result for trace in posterior] == [trace.result for trace in plain]


def test_a_scope_within_one_that_is_left_to_the_prior_is_too():
    def model():
        with ppl.rejection_scope(control=False), ppl.rejection_scope() as inner:
            while (z := ppl.sample(dist.Normal(0.0, 1.0), name="z")) < 0.5:
                inner.reject()
        ppl.observe(dist.Normal(z, 1.0), name="y")

    posterior = guided(model, {"y": 1.0}, 50, by_hand(programs.truncated(0.5), 1.0, 1.0), seed=12)
    plain = ppl.importance_sampling(model, {"y": 1.0}, 50, seed=12, backend="host", progress=False)
    np.testing.assert_array_equal(posterior.log_weights, plain.log_weights)


# -- how a network sees a loop -----------------------------------------------------------------------------------------


class Seen:
    """What the network was asked: the token of every draw, and the raw numbers of its proposal."""

    def __init__(self, monkeypatch):
        self.asked = []
        settle = Evaluator._settle

        def spied(evaluator, pending):
            self.asked += zip(pending.executions, pending.tokens, pending.raw.copy(), strict=True)
            return settle(evaluator, pending)

        monkeypatch.setattr(Evaluator, "_settle", spied)


def with_a_draw_before():
    mean = ppl.sample(dist.Normal(0.0, 1.0), name="mean")
    with ppl.rejection_scope() as scope:
        while True:
            x = ppl.sample(dist.Normal(mean, 1.0), name="x")
            if x + ppl.sample(dist.Normal(x, 1.0), name="y") > 0.5:
                break
            scope.reject()
    z = ppl.sample(dist.Normal(x, 1.0), name="z")
    ppl.observe(dist.Normal(z, 1.0), name="data")
    return z


@pytest.mark.parametrize(
    "core", [LSTM(8), pytest.param(Transformer(8, 1, 2, 8), marks=pytest.mark.slow)], ids=["lstm", "transformer"]
)
def test_every_pass_begins_with_the_state_and_instances_of_the_first(monkeypatch, core):
    """All passes of an execution get one proposal for x, bit for bit, also those that are run again."""
    network = untrained(with_a_draw_before, core, components=3)
    seen = Seen(monkeypatch)
    posterior = guided(with_a_draw_before, {"data": 0.3}, 20, network, seed=13, lockstep=7)
    assert {token.instance for _, token, _ in seen.asked} == {1}
    rows = {site.name: network.row(site.address, "Normal") for site in posterior[0].latents}
    assert all(rows.values())
    proposals = {}
    for execution, token, raw in seen.asked:
        if token.row == rows["x"]:
            proposals.setdefault(execution.own.index, []).append(raw)
    assert len(proposals) == 20
    assert all(len(passes) > 10 for passes in proposals.values())
    for passes in proposals.values():
        np.testing.assert_array_equal(passes, [passes[0]] * len(passes))
    assert len({passes[0].tobytes() for passes in proposals.values()}) == 20
    # Behind the loop nothing is run again.
    assert sum(token.row == rows["z"] for _, token, _ in seen.asked) == 20


def test_addresses_are_those_of_the_training():
    model = with_a_draw_before
    network = untrained(model)
    trace = guided(model, {"data": 0.3}, 1, network, seed=1)[0]
    prior = ppl.prior(model, 1, seed=2, progress=False)[0]
    assert trace.type == prior.type
    assert [(site.address, site.instance) for site in trace.sites] == [
        (site.address, site.instance) for site in prior.sites
    ]
    assert set(network.sites.known) == set(trace.type.draws)


def test_results_do_not_depend_on_the_lockstep_width():
    network = untrained(with_a_draw_before, LSTM(8), components=3)
    runs = [guided(with_a_draw_before, {"data": 0.3}, 24, network, seed=14, lockstep=width) for width in (1, 5, 24)]
    for other in runs[1:]:
        np.testing.assert_array_equal(other.log_weights, runs[0].log_weights)
        assert [trace.result for trace in other] == [trace.result for trace in runs[0]]
    fewer = guided(with_a_draw_before, {"data": 0.3}, 7, network, seed=14)
    np.testing.assert_array_equal(fewer.log_weights, runs[0].log_weights[:7])


def test_a_trace_keeps_its_weight():
    model = programs.truncated(0.0)
    posterior = guided(model, {"y": 1.0}, 10, by_hand(model, 1.0, 1.0), seed=15)
    for trace, log_weight in zip(posterior, posterior.log_weights, strict=True):
        assert trace.log_importance_weight == log_weight


# -- bad input and bad luck --------------------------------------------------------------------------------------------


def test_a_model_that_is_not_the_same_again_is_named():
    calls = []

    def model():
        calls.append(1)
        if len(calls) % 3 == 0:
            ppl.sample(dist.Normal(0.0, 1.0), name="surplus")
        with ppl.rejection_scope("loop", "here") as scope:
            while (z := ppl.sample(dist.Normal(0.0, 1.0), name="z")) < 0.0:
                scope.reject()
        ppl.observe(dist.Normal(z, 1.0), name="y")

    with pytest.raises(ppl.ScopeError, match=r"run again.*scope 'loop' at here.*'surplus'.*fresh_loops=0"):
        guided(model, {"y": 1.0}, 50, silent(programs.truncated(0.0)), seed=16)


def test_a_scope_that_is_not_met_again_is_named():
    calls = []

    def model():
        calls.append(1)
        if len(calls) == 1:
            with ppl.rejection_scope("loop", "here"):
                ppl.sample(dist.Normal(0.0, 1.0), name="z")
        ppl.observe(dist.Normal(0.0, 1.0), name="y")

    with pytest.raises(ppl.ScopeError, match=r"scope 'loop' at here: it came to the observe site 'y'"):
        guided(model, {"y": 1.0}, 1, silent(programs.truncated(0.0)), seed=16)


def test_models_that_catch_everything_are_run_again_all_the_same():
    def model():
        z = None
        while z is None:
            try:
                with ppl.rejection_scope() as scope:
                    while (z := ppl.sample(dist.Normal(0.0, 1.0), name="z")) <= 0.0:
                        scope.reject()
            except BaseException:
                z = 1.0
        ppl.observe(dist.Normal(z, programs.NOISE), name="y")
        return z

    plain = programs.truncated(0.0)
    both = [guided(each, {"y": 1.0}, 30, silent(each), seed=17) for each in (model, plain)]
    np.testing.assert_array_equal(both[0].log_weights, both[1].log_weights)


def test_an_interruption_within_a_fresh_pass_keeps_what_was_finished(monkeypatch):
    """Ctrl-C comes while the program runs a loop again; the with statement must not swallow it."""
    passes = []

    def model():
        with ppl.rejection_scope() as scope:
            while (z := ppl.sample(dist.Normal(0.0, 1.0), name="z")) <= 0.0:
                passes.append(1)
                if len(passes) == 300:
                    signal.raise_signal(signal.SIGINT)
                scope.reject()
        ppl.observe(dist.Normal(z, programs.NOISE), name="y")

    with pytest.warns(ppl.InterruptedRunWarning):
        posterior = guided(model, {"y": 1.0}, 100, by_hand(programs.truncated(0.0), 0.0, 1.0), seed=18, lockstep=4)
    assert 4 <= len(posterior) < 100


def test_an_error_of_the_model_in_a_fresh_pass_ends_that_pass_only():
    """It leaves the loop, as in the execution itself, which alone fails by it: where it fails without a network."""

    def model(end=2.0):
        with ppl.rejection_scope("loop") as scope:
            while (z := ppl.sample(dist.Normal(0.0, 1.0), name="z")) <= 0.0:
                scope.reject()
            if z > end:
                raise RuntimeError("the table ends at 2")
        ppl.observe(dist.Normal(z, programs.NOISE), name="y")

    def where(run):
        with pytest.raises(ppl.ModelError, match=r"the table ends at 2.*site 'z'") as caught:
            run()
        return str(caught.value)

    network = silent(partial(model, math.inf))
    for seed in range(3):
        settings = {"seed": seed, "progress": False}
        plain = where(partial(ppl.importance_sampling, model, {"y": 1.0}, 200, backend="host", **settings))
        assert where(partial(guided, model, {"y": 1.0}, 200, network, seed=seed, lockstep=1)) == plain


@pytest.mark.parametrize("number", [-1, 2.5, "many"])
def test_a_wrong_number_of_fresh_loops_is_refused(number):
    model = programs.truncated(0.0)
    with pytest.raises(ValueError, match="fresh_loops must be an integer of at least 0"):
        guided(model, {"y": 1.0}, 10, untrained(model), fresh_loops=number)


# -- trained -----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "data", "exact"),
    [
        (programs.truncated(1.0), {"y": 2.0}, programs.truncated_posterior(1.0, 2.0)),
        (
            programs.truncated_with_mean, {"y": 1.2}, programs.truncated_with_mean_posterior(1.2),
        ),
        (
            programs.marsaglia, {"obs0": 8.0, "obs1": 9.0}, programs.marsaglia_posterior({"obs0": 8.0, "obs1": 9.0}),
        ),
    ],
    ids=["truncated", "truncated with mean", "marsaglia"],
)  # fmt: skip
def test_a_trained_network(model, data, exact):
    """Training sees accepted passes only; its proposals are mostly accepted, and better than the prior."""
    network = ppl.train(model, 40_000, core=LSTM(32), batch_size=256, learning_rate=3e-3, seed=0, progress=False)
    posterior = guided(model, data, 1000, network, seed=1)
    check(posterior, *exact)
    prior = ppl.importance_sampling(model, data, 1000, seed=1, backend="host", progress=False)
    assert posterior.effective_sample_size > max(0.3 * 1000, 0.8 * prior.effective_sample_size)
