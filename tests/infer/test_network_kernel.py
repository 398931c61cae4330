"""Networks as proposals of Metropolis-Hastings: exact whatever the network, whatever runs beside, and worth it."""

import math
import signal
from dataclasses import replace
from functools import partial

import numpy as np
import programs
import pytest
from infer.scoped_programs import (
    HALF_MEAN,
    HALF_VARIANCE,
    half_marsaglia,
    truncated_with_mean,
    truncated_with_mean_posterior,
)
from infer.test_compiled import failing, untrained
from nn.small_network import SMALL, gum_network
from nn.wide_programs import zoo
from scipy import stats

import ppl_jax as ppl
import ppl_jax.distributions as dist
from ppl_jax import handlers
from ppl_jax.errors import NetworkError
from ppl_jax.infer.guided import chains as guided_chains
from ppl_jax.infer.guided.chains import Followed, SideBySide
from ppl_jax.infer.guided.tasks import Task
from ppl_jax.infer.metropolis.single_site import State
from ppl_jax.language.trace import Trace
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


@pytest.mark.parametrize(
    ("network", "share"),
    [
        ("trained", None),
        pytest.param("trained", 1.0, marks=pytest.mark.slow),
        ("bad", None),
        pytest.param("untrained", 1.0, marks=pytest.mark.slow),
    ],
)
def test_gaussian_with_unknown_mean(network, share):
    """A bad network alone would need some ten thousand steps to come from the prior to the posterior."""
    made = gum_network() if network == "trained" else bad(programs.gum, size=float(network == "bad"))
    posterior = run(
        programs.gum, programs.GUM_DATA, 3200, made, proposal_share=share, num_chains=32, burn_in=300, seed=1
    )
    assert agrees(posterior, "mu", programs.GUM_MEAN)
    assert agrees(posterior, lambda trace: (trace["mu"] - programs.GUM_MEAN) ** 2, programs.GUM_STDDEV**2)


def lopsided():
    kind = ppl.sample(dist.Bernoulli(0.5), name="kind")
    if kind:
        ppl.sample(dist.Poisson(2.0), name="extra")
    ppl.observe(dist.Normal(0.0, 1.0), name="y")


@pytest.mark.parametrize("share", [0.5, pytest.param(0.9, marks=pytest.mark.slow)])
def test_every_weight_is_that_of_the_present_execution(share):
    """Half of the executions are of either kind, and the network proposes 19 of 20 of one.

    Every flip of a walk between two executions of the network's is likely, and so are two of these one after the other.
    """
    network = untrained(lopsided, FeedForward(8, 1))
    biases = np.zeros_like(network.params["biases"])
    biases[[family for _, family in network.sites.known].index("Bernoulli") + 1, 1] = 3.0
    network = replace(network, params={**network.params, "biases": biases})
    posterior = run(lopsided, {"y": 0.0}, 6000, network, proposal_share=share, num_chains=32, burn_in=20, seed=1)
    assert agrees(posterior, "kind", 0.5)


@pytest.mark.parametrize("share", [0.3, pytest.param(1.0, marks=pytest.mark.slow)])
def test_discrete_network(share):
    exact, _ = programs.sprinkler_posterior()
    posterior = run(
        programs.sprinkler, programs.SPRINKLER_DATA, 6000, bad(programs.sprinkler), proposal_share=share, num_chains=30,
        seed=2,
    )  # fmt: skip
    assert agrees(posterior, "rain", exact)


@pytest.mark.parametrize("share", [0.3, pytest.param(1.0, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    ("model", "data", "exact"),
    [
        (programs.recursion, programs.RECURSION_DATA, programs.recursion_posterior()),
        (programs.branching, programs.BRANCHING_DATA, programs.branching_posterior()),
    ],
)
def test_changing_structure(model, data, exact, share):
    posterior = run(model, data, 4800, bad(model, LSTM(8), 0.5), proposal_share=share, num_chains=32, seed=3)
    for value in range(6):
        if exact[0][value] > 0.01:
            assert agrees(posterior, lambda trace, value=value: float(trace.result == value), exact[0][value]), value


@pytest.mark.slow
def test_a_rejection_loop_whose_passes_are_all_latents():
    network = bad(programs.gum_marsaglia, LSTM(8), 0.3)
    posterior = run(programs.gum_marsaglia, programs.GUM_DATA, 8000, network, num_chains=32, seed=4)
    assert agrees(posterior, "mu", programs.GUM_MEAN)
    assert agrees(posterior, lambda trace: (trace["mu"] - programs.GUM_MEAN) ** 2, programs.GUM_STDDEV**2)


@pytest.mark.slow
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


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.5, 1.0])
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


def seen(execution):
    """What a network sees of a new execution, and whether it proposes there."""
    return State(Trace(execution.sites), execution.free, [], 0.0, execution.scoped).seen()


def zoo_with_loops():
    """The zoo, with a loop in a loop in its middle, and a draw that is fixed in it."""
    total = zoo()
    with handlers.substitute(data={"fixed": 0.5}), ppl.rejection_scope() as outer:
        while True:
            x = ppl.sample(dist.Normal(0.0, 1.0), name="x")
            with ppl.rejection_scope() as inner:
                while (y := ppl.sample(dist.Poisson(3.0), name="y")) < 2:
                    inner.reject()
            if x + y + ppl.sample(dist.Normal(x, 1.0), name="fixed") > 3.0:
                break
            ppl.sample(dist.Bernoulli(0.5), name="of rejected passes")
            outer.reject()
    return total + ppl.sample(dist.Normal(x, 1.0), name="last")


@pytest.mark.parametrize("model", [zoo, zoo_with_loops])
@pytest.mark.parametrize(
    "core", [LSTM(8), pytest.param(Transformer(8, 1, 2, 8), marks=pytest.mark.slow)], ids=["lstm", "transformer"]
)
def test_an_execution_that_is_followed_weighs_what_it_weighed_when_it_was_new(core, model, monkeypatch):
    """To the bit, for every family, wherever in a block it stands."""
    network = bad(model, core, 0.3)
    weighed = []

    def noted(self, question, slot):
        task = original(self, question, slot)
        weighed.append(task.execution)
        return task

    original = SideBySide._fresh
    monkeypatch.setattr(SideBySide, "_fresh", noted)
    run(model, {"sum": 30.0}, 40, network, num_chains=20, burn_in=0, proposal_share=1.0, seed=8)
    done = [execution for execution in weighed if execution.log_weight != -math.inf]
    evaluator = guided_chains.ChainsEvaluator(network, {"sum": 30.0}, len(done))
    job = guided_chains.Job(model, {"sum": 30.0}, True, 1.0, (), 0)
    tasks = []
    for slot, execution in enumerate(reversed(done)):
        followed = Followed(job, network, slot)
        task = Task(followed, partial(followed.follow, seen(execution)))
        task.go_on()
        tasks.append((execution, task))
    while pending := [task for _, task in tasks if not task.done]:
        evaluator.answer([task.execution for task in pending])
        for task in pending:
            task.go_on()
    assert len({execution.gain for execution, _ in tasks}) == len(tasks) >= 20
    for execution, task in tasks:
        assert task.result == execution.gain


# -- what nothing is proposed for --------------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.5, pytest.param(1.0, marks=pytest.mark.slow)])
def test_nuisances_and_unknown_call_sites_come_from_the_prior(share):
    """y ~ Normal(a + b + c, 1), all standard normal: a nuisance, one that the network never saw, and one it proposes.

    The posterior mean of each is y / 4, the variance 3 / 4.
    """

    def model(unknown=True):
        a = ppl.sample(dist.Normal(0.0, 1.0), name="a", address="a", control=False)
        b = ppl.sample(dist.Normal(0.0, 1.0), name="b", address="b") if unknown else 0.0
        c = ppl.sample(dist.Normal(0.0, 1.0), name="c", address="c")
        ppl.observe(dist.Normal(a + b + c, 1.0), name="y", address="y")

    network = bad(lambda: model(unknown=False), size=0.5)
    posterior = run(model, {"y": 2.0}, 4800, network, proposal_share=share, num_chains=32, seed=1)
    for name in ("a", "b", "c"):
        assert agrees(posterior, name, 0.5)
        assert agrees(posterior, lambda trace, name=name: (trace[name] - 0.5) ** 2, 0.75)


def test_latents_that_a_handler_fixes_are_part_of_the_target():
    """b is fixed and hangs on a: the posterior of a is that given b = 2, Normal(1, sqrt(1/2))."""

    def model():
        a = ppl.sample(dist.Normal(0.0, 1.0), name="a")
        b = ppl.sample(dist.Normal(a, 1.0), name="b")
        ppl.observe(dist.Normal(b, 1.0), name="y")

    fixed = handlers.substitute(model, data={"b": 2.0})
    posterior = run(fixed, {"y": 0.0}, 5000, bad(model, size=0.5), num_chains=25, seed=2)
    assert {trace["b"] for trace in posterior[:50]} == {2.0}
    assert agrees(posterior, "a", 1.0)
    assert agrees(posterior, lambda trace: (trace["a"] - 1.0) ** 2, 0.5)


def test_the_users_own_proposals_are_left_to_importance_sampling():
    def model():
        with handlers.propose(proposal=lambda site: dist.Normal(7.0, 1.0)):
            mu = ppl.sample(dist.Normal(1.0, math.sqrt(5.0)), name="mu")
        ppl.observe(dist.Normal(mu, math.sqrt(2.0)), name="obs0")
        ppl.observe(dist.Normal(mu, math.sqrt(2.0)), name="obs1")

    posterior = run(model, programs.GUM_DATA, 3000, untrained(model, FeedForward(8, 1)), num_chains=30, seed=3)
    assert agrees(posterior, "mu", programs.GUM_MEAN)
    assert posterior[0].latents[0].proposal is None


def test_executions_without_latents_are_reached_and_left_by_the_network():
    """Half of the executions have nothing to move, which a nuisance decides; a walk alone would never see them."""

    def model():
        some = ppl.sample(dist.Bernoulli(0.5), name="some", control=False)
        x = ppl.sample(dist.Normal(0.0, 1.0), name="x") if some else 0.0
        ppl.observe(dist.Normal(x, 1.0), name="y")

    network = bad(model, size=0.3)
    start = next(trace for trace in ppl.prior(model, 20, seed=1, progress=False) if trace["some"])
    posterior = run(model, {"y": 1.0}, 4000, network, num_chains=20, seed=4, initial_trace=start)
    odds = stats.norm.pdf(1.0, 0.0, math.sqrt(2.0)) / stats.norm.pdf(1.0)
    assert agrees(posterior, "some", odds / (1.0 + odds))


# -- rejection scopes --------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.5, 1.0])
def test_marsaglias_method_in_a_scope(share):
    network = bad(half_marsaglia, LSTM(8), 0.3)
    posterior = run(half_marsaglia, programs.GUM_DATA, 4800, network, proposal_share=share, num_chains=32, seed=1)
    for function, expected in (
        (lambda trace: trace.result, programs.GUM_MEAN),
        (lambda trace: (trace.result - programs.GUM_MEAN) ** 2, programs.GUM_STDDEV**2),
        (lambda trace: trace["a"], HALF_MEAN),
        (lambda trace: (trace["a"] - HALF_MEAN) ** 2, HALF_VARIANCE),
    ):
        assert agrees(posterior, function, expected)


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.5, 1.0])
def test_the_probability_of_acceptance_of_a_scope_cancels(share):
    _, mean = truncated_with_mean_posterior(1.2)
    network = bad(truncated_with_mean, LSTM(8))
    posterior = run(
        truncated_with_mean, {"y": 1.2}, 4800, network, proposal_share=share, num_chains=32, burn_in=100, seed=2
    )
    assert agrees(posterior, "mu", mean)


# -- what it does not depend on ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "core", [LSTM(8), pytest.param(Transformer(8, 1, 2, 8), marks=pytest.mark.slow)], ids=["lstm", "transformer"]
)
def test_chains_do_not_depend_on_what_runs_beside_them(core, monkeypatch, tmp_path):
    network = bad(programs.gum_marsaglia, core, 0.3)
    runs = []
    for width, workers, path in ((32, 1, None), (3, 1, tmp_path / "chains"), (1, 2, None)):
        monkeypatch.setattr(guided_chains, "SIDE_BY_SIDE", width)
        runs.append(
            run(
                programs.gum_marsaglia, programs.GUM_DATA, 150, network, num_chains=7, burn_in=10, seed=5,
                num_workers=workers, path=path,
            )
        )  # fmt: skip
    fewer = run(programs.gum_marsaglia, programs.GUM_DATA, 22, network, num_chains=1, burn_in=10, seed=5)
    values = [np.asarray(posterior.map("mu").values) for posterior in runs]
    assert [posterior.num_chains for posterior in runs] == [7, 7, 7]
    np.testing.assert_array_equal(values[1], values[0])
    np.testing.assert_array_equal(values[2], values[0])
    np.testing.assert_array_equal(fewer.map("mu").values, values[0][:22])
    assert len(np.unique(values[0])) > 10


def test_thinning_chooses_among_the_same_steps():
    whole, thinned = (
        run(programs.gum, programs.GUM_DATA, number, gum_network(), kernel="lightweight", burn_in=10, thinning=every,
            seed=6)
        for number, every in ((60, 1), (20, 3))
    )  # fmt: skip
    np.testing.assert_array_equal(thinned.map("mu").values, whole.map("mu").values[2::3])


def test_a_network_on_disk_gives_the_same_chain(tmp_path):
    gum_network().save(tmp_path / "network")
    first, again = (
        run(programs.gum, programs.GUM_DATA, 50, network, seed=7)
        for network in (gum_network(), ppl.load_network(tmp_path / "network"))
    )
    np.testing.assert_array_equal(first.map("mu").values, again.map("mu").values)


# -- bad input and bad luck --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"proposal_share": 0.0}, ValueError, "must be a probability above 0, got 0.0.*leave proposal out"),
        ({"proposal_share": 1.5}, ValueError, "must be a probability above 0, got 1.5"),
        ({"proposal_share": True}, ValueError, "must be a probability above 0, got True"),
        ({"proposal": None, "proposal_share": 0.5}, ValueError, "proposal_share=0.5 .*there is no proposal"),
        ({"proposal": lambda site: None}, TypeError, "proposal must be a network from ppl_jax.train"),
    ],
)
def test_wrong_arguments_are_refused(settings, error, message):
    arguments = {"proposal": gum_network(), "num_traces": 10, "progress": False, **settings}
    with pytest.raises(error, match=message):
        ppl.metropolis_hastings(programs.gum, programs.GUM_DATA, **arguments)


def test_a_network_of_other_observations_is_refused():
    with pytest.raises(NetworkError, match="'obs1' is not given"):
        run(programs.gum, {"obs0": 8.0}, 10, gum_network())


def test_a_network_of_another_model_is_refused():
    def other():
        ppl.sample(dist.Normal(0.0, 1.0), name="other")
        ppl.observe(dist.Normal(0.0, 1.0), name="obs0")
        ppl.observe(dist.Normal(0.0, 1.0), name="obs1")

    with pytest.raises(NetworkError, match=r"none of the 1 latents where the chain begins.*'other'.*another model"):
        run(other, programs.GUM_DATA, 10, gum_network(), seed=1)


def test_a_model_without_latents_is_refused():
    def model():
        ppl.observe(dist.Normal(0.0, 1.0), name="obs0")
        ppl.observe(dist.Normal(0.0, 1.0), name="obs1")

    with pytest.raises(ppl.NoLatentsError):
        run(model, programs.GUM_DATA, 10, gum_network())


def test_an_error_of_the_model_keeps_what_was_finished():
    with pytest.raises(ppl.ModelError, match="the simulator failed") as caught:
        run(failing(60), programs.GUM_DATA, 400, bad(failing(10**9)), num_chains=4, burn_in=2, seed=8)
    finished = caught.value.finished
    assert len(finished) >= 20
    assert finished.num_chains == 1


@pytest.mark.parametrize("width", [1, 32])
def test_an_interrupted_run_returns_what_was_finished(width, monkeypatch):
    monkeypatch.setattr(guided_chains, "SIDE_BY_SIDE", width)
    calls, network = [], None

    def model():
        calls.append(1)
        if len(calls) == 150 and network:
            signal.raise_signal(signal.SIGINT)
        return programs.gum()

    network = bad(model)
    calls.clear()
    with pytest.warns(ppl.InterruptedRunWarning, match="returning the"):
        posterior = run(model, programs.GUM_DATA, 2000, network, num_chains=5, burn_in=2, seed=9)
    assert 50 < len(posterior) < 160


# -- what it is good for -----------------------------------------------------------------------------------------------


def folded():
    """Four numbers of which the data tell the squares: sixteen modes, between which a walk hardly finds its way."""
    for k in range(4):
        x = ppl.sample(dist.Normal(0.0, 1.0), name=f"x{k}")
        ppl.observe(dist.Normal(x * x, 0.2), name=f"y{k}")


FOLDED_DATA = {"y0": 1.2, "y1": 0.7, "y2": 1.8, "y3": 1.0}


def samples_per_step(posterior, function):
    """Effective sample size for a mean, per step."""
    mapped = posterior.map(function)
    return float(np.var(mapped.values)) / mapped.standard_error**2 / len(posterior)


@pytest.mark.slow
def test_a_trained_network_finds_modes_that_a_walk_does_not():
    """Per step the signs mix 77 times better, and the absolute values 7 times (measured with these settings and seeds).

    The bounds leave room for the error of the walk's effective sample size, of which there are about 40.
    """
    network = ppl.train(folded, 20_000, seed=0, **SMALL)
    settings = {"num_chains": 4, "burn_in": 500, "seed": 1, "progress": False}
    walk = ppl.metropolis_hastings(folded, FOLDED_DATA, 16_000, **settings)
    mixed = ppl.metropolis_hastings(folded, FOLDED_DATA, 4000, proposal=network, **settings)
    for function, times in ((lambda trace: float(trace["x0"] > 0.0), 15.0), (lambda trace: abs(trace["x1"]), 3.0)):
        assert samples_per_step(mixed, function) > times * samples_per_step(walk, function)
    for k in range(4):
        assert agrees(mixed, lambda trace, k=k: float(trace[f"x{k}"] > 0.0), 0.5)
