"""Networks as proposals of Metropolis-Hastings: exact whatever the network, whatever runs beside, and worth it."""

import math
from dataclasses import replace
from functools import partial

import numpy as np
import programs
import pytest
from infer.test_compiled import untrained
from nn.small_network import gum_network
from nn.wide_programs import zoo
from scipy import stats

import ppl_jax as ppl
import ppl_jax.distributions as dist
from ppl_jax.infer import guided_chains
from ppl_jax.infer.guided_chains import Followed, SideBySide
from ppl_jax.nn import LSTM, FeedForward, Transformer


def bad(model, core=None, size=1.0):
    """A network with random parameters: its proposals are wrong, and differ from call site to call site."""
    network = untrained(model, core or FeedForward(8, 1))
    rng = np.random.default_rng(0)
    shape = np.shape(network.params["biases"])
    return replace(network, params={**network.params, "biases": size * rng.normal(size=shape).astype(np.float32)})


def run(model, data, number, network, **settings):
    settings = {"proposal": network, "progress": False, "burn_in": 200, **settings}
    return ppl.metropolis_hastings(model, data, number, **settings)


def agrees(posterior, function, expected):
    """Whether a mean is within 4.5 standard errors, which are Geyer's for chains."""
    mapped = posterior.map(function)
    return abs(mapped.mean - expected) < 4.5 * mapped.standard_error


# -- exact posteriors --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("network", "share"), [("trained", None), ("trained", 1.0), ("bad", None), ("untrained", 1.0)])
def test_gaussian_with_unknown_mean(network, share):
    """A bad network alone would need some ten thousand steps to come from the prior to the posterior."""
    made = gum_network() if network == "trained" else bad(programs.gum, size=float(network == "bad"))
    posterior = run(
        programs.gum, programs.GUM_DATA, 6000, made, proposal_share=share, num_chains=30, burn_in=400, seed=1
    )
    assert agrees(posterior, "mu", programs.GUM_MEAN)
    assert agrees(posterior, lambda trace: (trace["mu"] - programs.GUM_MEAN) ** 2, programs.GUM_STDDEV**2)


def lopsided():
    kind = ppl.sample(dist.Bernoulli(0.5), name="kind")
    if kind:
        ppl.sample(dist.Poisson(2.0), name="extra")
    ppl.observe(dist.Normal(0.0, 1.0), name="y")


@pytest.mark.parametrize("share", [0.3, 0.5])
def test_what_a_walk_changes_between_two_executions_counts(share):
    """Half of the executions are of either kind, the network proposes 19 of 20 of one, and every flip is likely."""
    network = untrained(lopsided, FeedForward(8, 1))
    biases = np.zeros_like(network.params["biases"])
    biases[[family for _, family in network.sites.known].index("Bernoulli") + 1, 1] = 3.0
    network = replace(network, params={**network.params, "biases": biases})
    posterior = run(lopsided, {"y": 0.0}, 6000, network, proposal_share=share, num_chains=32, burn_in=20, seed=1)
    assert agrees(posterior, "kind", 0.5)


@pytest.mark.parametrize("share", [0.3, 1.0])
def test_discrete_network(share):
    exact, _ = programs.sprinkler_posterior()
    posterior = run(
        programs.sprinkler, programs.SPRINKLER_DATA, 6000, bad(programs.sprinkler), proposal_share=share, num_chains=30,
        seed=2,
    )  # fmt: skip
    assert agrees(posterior, "rain", exact)


@pytest.mark.parametrize("share", [0.3, 1.0])
@pytest.mark.parametrize(
    ("model", "data", "exact"),
    [
        (programs.recursion, programs.RECURSION_DATA, programs.recursion_posterior()),
        (programs.branching, programs.BRANCHING_DATA, programs.branching_posterior()),
    ],
)
def test_changing_structure(model, data, exact, share):
    posterior = run(model, data, 6000, bad(model, LSTM(8), 0.5), proposal_share=share, num_chains=30, seed=3)
    for value in range(6):
        if exact[0][value] > 0.01:
            assert agrees(posterior, lambda trace, value=value: float(trace.result == value), exact[0][value]), value


def test_a_rejection_loop_whose_passes_are_all_latents():
    network = bad(programs.gum_marsaglia, LSTM(8), 0.3)
    posterior = run(programs.gum_marsaglia, programs.GUM_DATA, 8000, network, num_chains=32, seed=4)
    assert agrees(posterior, "mu", programs.GUM_MEAN)
    assert agrees(posterior, lambda trace: (trace["mu"] - programs.GUM_MEAN) ** 2, programs.GUM_STDDEV**2)


def test_tempering():
    """GUM with the likelihood to the power 1/2."""
    posterior = run(
        programs.gum, programs.GUM_DATA, 4000, gum_network(), likelihood_importance=0.5, num_chains=20, seed=5
    )
    precision = 0.2 + 0.5
    mean = (0.2 * 1.0 + 0.25 * 17.0) / precision
    assert agrees(posterior, "mu", mean)
    assert agrees(posterior, lambda trace: (trace["mu"] - mean) ** 2, 1.0 / precision)


# -- a start from the target stays in the target -----------------------------------------------------------------------


def restless():
    """Data that know nothing, changing structure, a nuisance, vectors, and priors that depend on earlier draws."""
    width = ppl.sample(dist.Gamma(2.0, 1.0), name="width")
    nuisance = ppl.sample(dist.Bernoulli(0.5), name="nuisance", control=False)
    count = ppl.sample(dist.Poisson(1.0 + nuisance), name="count")
    total = 0.0
    for _ in range(min(count, 4)):
        total += ppl.sample(dist.Uniform(-width, width), name="u")
        if ppl.sample(dist.Bernoulli(0.3), name="more"):
            total += ppl.sample(dist.Normal(total, 1.0 + width), name="extra")
    angle = ppl.sample(dist.VonMises(0.3, 2.0), name="angle")
    pair = ppl.sample(dist.Normal(np.array([width, -1.0]), 1.0), name="pair")
    kind = ppl.sample(dist.Categorical([0.2, 0.5, 0.3]), name="kind")
    ppl.observe(dist.Normal(0.0, 1.0), name="y")
    return width, count, total, angle, pair[0], pair[1], kind


@pytest.mark.parametrize("share", [0.5, pytest.param(1.0, marks=pytest.mark.slow)])
def test_steps_leave_the_target_invariant(share):
    """Every chain begins with a draw of the posterior, which is the prior here; four steps later it is one still.

    Two-sample tests of seven numbers at a family-wise level of 0.1 %.
    """
    number = 1000
    chains = run(
        restless, {"y": 0.0}, number, bad(restless, LSTM(8), 0.5), proposal_share=share, num_chains=number, burn_in=3,
        seed=6,
    )  # fmt: skip
    others = ppl.prior(restless, 4 * number, seed=7, backend="host", progress=False)
    moved, independent = (np.array([trace.result for trace in traces]) for traces in (chains, others))
    for column, name in enumerate(["width", "count", "total", "angle", "first", "second", "kind"]):
        if name in ("count", "kind"):
            values = np.unique(independent[:, column])
            table = np.array([[(side[:, column] == v).sum() for v in values] for side in (moved, independent)])
            rare = table.sum(axis=0) < 40
            table = np.column_stack([table[:, ~rare], table[:, rare].sum(axis=1)])
            p_value = stats.chi2_contingency(table[:, table.sum(axis=0) > 0]).pvalue
        else:
            p_value = stats.ks_2samp(moved[:, column], independent[:, column]).pvalue
        assert p_value > 1e-3 / 7, (name, p_value)


@pytest.mark.parametrize("core", [LSTM(8), Transformer(8, 1, 2, 8)], ids=["lstm", "transformer"])
def test_an_execution_that_is_followed_weighs_what_it_weighed_when_it_was_new(core, monkeypatch):
    """To the bit, for every family, wherever in a block it stands."""
    network = bad(zoo, core, 0.3)
    weighed = []

    def noted(self, question, slot):
        task = original(self, question, slot)
        weighed.append(task.execution)
        return task

    original = SideBySide._fresh
    monkeypatch.setattr(SideBySide, "_fresh", noted)
    run(zoo, {"sum": 30.0}, 40, network, num_chains=20, burn_in=0, proposal_share=1.0, seed=8)
    done = [execution for execution in weighed if execution.log_weight != -math.inf]
    evaluator = guided_chains.ChainsEvaluator(network, {"sum": 30.0}, len(done))
    job = guided_chains.Job(zoo, {"sum": 30.0}, True, 1.0, (), 0)
    tasks = []
    for slot, execution in enumerate(reversed(done)):
        followed = Followed(job, network, slot)
        tasks.append((execution, guided_chains.Task(followed, partial(followed.follow, execution.free))))
    while pending := [task for _, task in tasks if not task.done]:
        evaluator.answer([task.execution for task in pending])
        for task in pending:
            task.go_on()
    assert len({execution.gain for execution, _ in tasks}) == len(tasks) >= 20
    for execution, task in tasks:
        assert task.result == execution.gain
