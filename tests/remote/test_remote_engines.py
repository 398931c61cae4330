"""A simulator in another process under every engine gives what the same program gives in this one, bit for bit."""

import numpy as np
import programs
import pytest
import remote_programs
from infer.test_compiled import untrained
from nn.small_network import gum_network
from programs import GUM_DATA, GUM_LOG_EVIDENCE, GUM_MEAN, GUM_STDDEV, HMM_DATA
from remote_programs import EVERYTHING_DATA
from remote_simulators import MODES, simulator

import ppl_jax as ppl
import ppl_jax.distributions as dist
from ppl_jax import handlers
from ppl_jax.nn import LSTM

PROGRAMS = {
    "gum": (programs.gum, GUM_DATA),
    "gum_marsaglia": (programs.gum_marsaglia, GUM_DATA),
    "hidden_markov": (programs.hidden_markov, HMM_DATA),
    "branching": (programs.branching, programs.BRANCHING_DATA),
    "everything": (remote_programs.everything, EVERYTHING_DATA),
}
QUICK = {
    "shared memory": list(PROGRAMS),
    "sockets": ["everything"],
    "1.0.0 here": ["gum_marsaglia"],
    "1.0.0 there": ["hidden_markov"],
}


def cases():
    """Every program in every mode, but for those with factors, or families, that PPX 1.0.0 lacks; most of them slow."""
    for mode in MODES:
        for name in PROGRAMS:
            if "1.0.0" not in mode or name != "everything":
                marks = () if name in QUICK[mode] else pytest.mark.slow
                yield pytest.param(name, mode, marks=marks)


def described(site):
    """A site's structure and numbers."""
    return (site.address, site.instance, site.name, site.kind, site.control, site.observed, site.distribution)


def same_traces(remote, local):
    """Whether two posteriors have the same traces, bit for bit, and the same weights but for the last digits."""
    assert len(remote) == len(local)
    assert np.allclose(remote.log_weights, local.log_weights, rtol=1e-12, atol=1e-12)
    for here, there in zip(remote, local, strict=True):
        assert [described(site) for site in here.sites] == [described(site) for site in there.sites]
        for one, other in zip(here.sites, there.sites, strict=True):
            assert np.array_equal(one.value, other.value)
        assert np.array_equal(here.result, there.result)
    return True


@pytest.mark.parametrize(("name", "mode"), cases())
def test_prior(simulators, name, mode):
    program, _ = PROGRAMS[name]
    runs = [ppl.prior(model, 150, seed=1, progress=False) for model in (simulators(name, mode), program)]
    assert same_traces(*runs)


@pytest.mark.parametrize(("name", "mode"), cases())
def test_importance_sampling(simulators, name, mode):
    program, data = PROGRAMS[name]
    runs = [
        ppl.importance_sampling(model, data, 150, seed=2, likelihood_importance=0.7, progress=False)
        for model in (simulators(name, mode), program)
    ]
    assert same_traces(*runs)


@pytest.mark.parametrize(("name", "mode"), cases())
@pytest.mark.parametrize("kernel", ["random_walk", "lightweight"])
def test_metropolis_hastings(simulators, name, mode, kernel):
    program, data = PROGRAMS[name]
    runs = [
        ppl.metropolis_hastings(
            model, data, 60, kernel=kernel, num_chains=2, burn_in=40, thinning=2, seed=3, progress=False
        )
        for model in (simulators(name, mode), program)
    ]
    assert same_traces(*runs)


@pytest.mark.parametrize(("name", "mode"), cases())
def test_sequential_monte_carlo(simulators, name, mode):
    """More particles are open than there are simulators: they give way to each other and come back."""
    program, data = PROGRAMS[name]
    runs = [ppl.smc(model, data, 12, seed=4, progress=False) for model in (simulators(name, mode), program)]
    assert same_traces(*runs)
    assert runs[0].log_evidence == pytest.approx(runs[1].log_evidence, abs=1e-12)


@pytest.mark.parametrize("mode", ["shared memory", pytest.param("1.0.0 there", marks=pytest.mark.slow)])
def test_proposals(simulators, mode):
    def proposal(site):
        return dist.Normal(7.0, 1.0) if site.name == "mu" else None

    runs = [
        ppl.importance_sampling(model, GUM_DATA, 100, proposal=proposal, seed=5, progress=False)
        for model in (simulators("gum", mode), programs.gum)
    ]
    assert same_traces(*runs)
    assert [site.proposal for site in runs[0][0].latents] == [dist.Normal(7.0, 1.0)]
    inflated = [
        ppl.importance_sampling(model, GUM_DATA, 100, prior_inflation=3.0, seed=6, progress=False)
        for model in (simulators("gum", mode), programs.gum)
    ]
    assert same_traces(*inflated)


@pytest.mark.parametrize("mode", ["shared memory", pytest.param("1.0.0 there", marks=pytest.mark.slow)])
def test_handlers(simulators, mode):
    """Each handler around the simulator does what it does around the program."""
    simulator, program = simulators("gum", mode), programs.gum
    earlier = handlers.trace(handlers.seed(program, seed=3)).get_trace()
    for wrap in (
        lambda model: handlers.condition(model, data=GUM_DATA),
        lambda model: handlers.substitute(model, data={"mu": 2.5}),
        lambda model: handlers.replay(model, trace=earlier),
        lambda model: handlers.block(model, hide=["obs0"]),
        lambda model: handlers.inflate(model, scale=2.0),
        lambda model: handlers.control(model, on=["nothing"]),
        lambda model: model,
    ):
        traces = [
            handlers.trace(handlers.seed(wrap(model), seed=7, index=2)).get_trace() for model in (simulator, program)
        ]
        here, there = ([(described(site), site.value) for site in trace.sites] for trace in traces)
        assert here == there
        assert traces[0].result == traces[1].result
    with handlers.substitute(data={"mu": 1.5}):
        ambient = ppl.importance_sampling(simulator, GUM_DATA, 20, seed=1, progress=False)
    assert {trace["mu"] for trace in ambient} == {1.5}


def test_a_plain_call(simulators):
    results = {simulators("gum")() for _ in range(5)}
    assert len(results) == 5
    assert all(isinstance(result, float) for result in results)


def test_exact_answers(simulators):
    """Four standard errors, as for the program itself."""
    posterior = ppl.importance_sampling(simulators("gum"), GUM_DATA, 20_000, seed=2, progress=False)
    mu, ess = posterior.map("mu"), posterior.effective_sample_size
    weights = np.exp(posterior.log_weights - posterior.log_weights.max())
    assert mu.mean == pytest.approx(GUM_MEAN, abs=4 * GUM_STDDEV / np.sqrt(ess))
    assert mu.stddev == pytest.approx(GUM_STDDEV, abs=4 * GUM_STDDEV / np.sqrt(2 * ess))
    error = weights.std() / weights.mean() / np.sqrt(len(weights))
    assert posterior.log_evidence == pytest.approx(GUM_LOG_EVIDENCE, abs=4 * error)


def test_data_in_place_of_simulated_data(simulators):
    runs = [
        ppl.prior(model, 50, observations={"obs1": 3.0}, seed=1, progress=False)
        for model in (simulators("gum"), programs.gum)
    ]
    assert same_traces(*runs)
    assert {trace["obs1"] for trace in runs[0]} == {3.0}


def test_a_conditioned_draw(simulators):
    runs = [
        ppl.importance_sampling(model, {**GUM_DATA, "mu": 6.0}, 20, seed=1, progress=False)
        for model in (simulators("gum"), programs.gum)
    ]
    assert same_traces(*runs)
    assert all(site.observed for site in runs[0][0].sites)


def test_on_disk_equals_in_memory(simulators, tmp_path):
    model = simulators("gum_marsaglia")
    inside = ppl.importance_sampling(model, GUM_DATA, 700, seed=9, progress=False)
    outside = ppl.importance_sampling(model, GUM_DATA, 700, seed=9, path=tmp_path / "traces", progress=False)
    assert same_traces(outside, inside)


@pytest.mark.slow
def test_the_number_of_processes_does_not_change_the_result(simulators):
    runs = [ppl.importance_sampling(simulators("gum_marsaglia"), GUM_DATA, 2500, seed=7, progress=False)]
    with simulator("gum_marsaglia", num_processes=2) as model:
        runs.append(ppl.importance_sampling(model, GUM_DATA, 2500, seed=7, progress=False))
        assert len(model.process_ids) == 2
    assert np.array_equal(runs[0].log_weights, runs[1].log_weights)
    assert same_traces(runs[1], ppl.importance_sampling(programs.gum_marsaglia, GUM_DATA, 2500, seed=7, progress=False))


def test_an_initial_trace(simulators):
    start = ppl.prior(programs.branching, 1, seed=5, progress=False)[0]
    runs = [
        ppl.metropolis_hastings(
            model, programs.BRANCHING_DATA, 40, burn_in=0, initial_trace=start, seed=8, progress=False
        )
        for model in (simulators("branching"), programs.branching)
    ]
    assert same_traces(*runs)


def test_many_latents(simulators):
    """A thousand latents: one message a step, and only what has changed is evaluated."""
    runs = [
        ppl.metropolis_hastings(model, num_traces=20, burn_in=20, seed=3, progress=False)
        for model in (simulators("thousand"), remote_programs.thousand)
    ]
    assert same_traces(*runs)


# -- guided by a network ---------------------------------------------------------------------------------------------


def test_a_network_guides_a_simulator_as_it_guides_the_program():
    """Whatever the number of processes, and with more executions wanted side by side than there are processes."""
    local = ppl.importance_sampling(programs.gum, GUM_DATA, 200, proposal=gum_network(), seed=3, progress=False)
    for num_processes in (1, 2):
        with simulator("gum", num_processes=num_processes) as model:
            remote = ppl.importance_sampling(model, GUM_DATA, 200, proposal=gum_network(), seed=3, progress=False)
        same_traces(remote, local)


@pytest.mark.parametrize("num_processes", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_a_network_proposes_for_chains_of_a_simulator_as_for_those_of_the_program(num_processes):
    settings = {"num_chains": 4, "burn_in": 5, "seed": 4, "progress": False}
    network = untrained(programs.gum_marsaglia, LSTM(8))
    local = ppl.metropolis_hastings(programs.gum_marsaglia, GUM_DATA, 60, proposal=network, **settings)
    with simulator("gum_marsaglia", num_processes=num_processes) as model:
        remote = ppl.metropolis_hastings(model, GUM_DATA, 60, proposal=network, **settings)
    assert same_traces(remote, local)
    assert len(np.unique(local.map("mu").values)) > 5
