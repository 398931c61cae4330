"""Simulators in C++ under every engine: the traces of the same programs in Python, from the same seed, bit for bit."""

import sys

import numpy as np
import programs
import pytest
import remote_programs
from remote_simulators import HERE, WAIT, command

import ppl_jax as ppl

sys.path.append(str(HERE.parent / "ppx"))
from cpp_front_end import built

# name -> (target, arguments, the same in Python, data)
PROGRAMS = {
    "gum": ("gum", [], programs.gum, programs.GUM_DATA),
    "gum_marsaglia": ("gum_marsaglia", [], programs.gum_marsaglia, programs.GUM_DATA),
    "hidden_markov": ("hidden_markov", [], programs.hidden_markov, programs.HMM_DATA),
    "branching": ("branching", [], programs.branching, programs.BRANCHING_DATA),
    "recursion": ("programs", ["recursion"], programs.recursion, programs.RECURSION_DATA),
    "sprinkler": ("programs", ["sprinkler"], programs.sprinkler, programs.SPRINKLER_DATA),
}
MODES = {"shared memory": {}, "sockets": {"shared_memory": False}, "1.0.0": {"extension": False}}


@pytest.fixture(params=PROGRAMS)
def case(request):
    """A program's options to start it in C++, the same in Python, and data."""
    target, arguments, program, data = PROGRAMS[request.param]
    return {"command": [str(built(target)), "{endpoint}", *arguments], "timeout": WAIT}, program, data


def numbers(posterior):
    """Kind, name, value and distribution of all sites: addresses, and so instances, differ between languages."""
    return [
        [(site.kind, site.name, np.ravel(site.value).tolist(), site.distribution) for site in trace.sites]
        for trace in posterior
    ]


@pytest.mark.parametrize("mode", [*list(MODES)[:2], pytest.param("1.0.0", marks=pytest.mark.slow)])
def test_every_engine(case, mode):
    options, program, data = case
    engines = (
        lambda model: ppl.prior(model, 300, seed=1, progress=False),
        lambda model: ppl.importance_sampling(model, data, 300, seed=2, progress=False),
        lambda model: ppl.importance_sampling(model, data, 100, proposal=lambda s: None, seed=2, progress=False),
        lambda model: ppl.metropolis_hastings(model, data, 100, burn_in=0, seed=3, progress=False),
        lambda model: ppl.metropolis_hastings(model, data, 60, kernel="lightweight", burn_in=9, seed=4, progress=False),
        lambda model: ppl.smc(model, data, 20, seed=5, progress=False),
    )
    with ppl.RemoteModel(**options, **MODES[mode]) as simulator:
        for engine in engines:
            remote, local = engine(simulator), engine(program)
            assert numbers(remote) == numbers(local)
            assert np.allclose(remote.log_weights, local.log_weights, atol=1e-12)
            results = [np.ravel(trace.result).tolist() for trace in remote]
            assert results == [np.ravel(trace.result).tolist() for trace in local]


def test_several_processes():
    options = {"command": [str(built("gum_marsaglia")), "{endpoint}"], "timeout": WAIT}
    runs = []
    for number in (1, 3):
        with ppl.RemoteModel(**options, num_processes=number) as simulator:
            runs.append(ppl.importance_sampling(simulator, programs.GUM_DATA, 30_000, seed=7, progress=False))
    assert np.array_equal(runs[0].log_weights, runs[1].log_weights)
    assert np.array_equal(runs[0].map("mu").values, runs[1].map("mu").values)


def test_batches_that_pass_the_size_of_an_answer():
    """A thousand draws are 24 kB: of a batch the simulator does what fits in an answer, and is asked for the rest."""
    options = {"command": [str(built("programs")), "{endpoint}", "thousand"], "timeout": WAIT}
    runs = []
    for number in (1, 2):
        with ppl.RemoteModel(**options, num_processes=number) as simulator:
            runs.append(ppl.prior(simulator, 700, seed=3, progress=False))
        assert len(runs[-1]) == 700
    assert np.array_equal(runs[0].map(result).values, runs[1].map(result).values)
    options["command"][2:] = []
    options["command"][0] = str(built("gum"))
    with ppl.RemoteModel(**options, num_processes=2) as simulator:
        posterior = ppl.importance_sampling(simulator, programs.GUM_DATA, 150_000, seed=3, progress=False)
    assert len(posterior) == 150_000
    last = ppl.importance_sampling(programs.gum, programs.GUM_DATA, 200, seed=3, backend="host", progress=False)
    assert numbers(posterior[:200]) == numbers(last)


def result(trace):
    """What the program returned."""
    return trace.result


def test_rejection_scope():
    """The upper half of a normal prior, a likelihood of standard deviation 1/2, y = 1: a normal cut off at zero."""
    from scipy import stats

    variance = 1.0 / (1.0 + 4.0)
    exact = stats.truncnorm(-0.8 / variance**0.5, np.inf, loc=0.8, scale=variance**0.5)
    with ppl.RemoteModel(command=[str(built("programs")), "{endpoint}", "rejection"], timeout=WAIT) as simulator:
        for proposal in (None, lambda site: None):
            posterior = ppl.importance_sampling(simulator, {"y": 1.0}, 5000, proposal=proposal, seed=1, progress=False)
            x = posterior.map("x")
            assert x.mean == pytest.approx(exact.mean(), abs=4 * exact.std() / np.sqrt(posterior.effective_sample_size))
            assert {len(trace.sites) for trace in posterior} == {2}
        with pytest.raises(ppl.NoLatentsError):  # the only draw is made afresh in every step
            ppl.metropolis_hastings(simulator, {"y": 1.0}, 10, progress=False)


def test_a_thousand_latents():
    """One message a step over 1,000 draws, and the chain that asks for each of them."""
    with ppl.RemoteModel(command=[str(built("programs")), "{endpoint}", "thousand"], timeout=WAIT) as simulator:
        chains = [
            ppl.metropolis_hastings(model, {"y": 3.0}, 15, burn_in=10, seed=1, progress=False)
            for model in (simulator, lambda: simulator())
        ]
    assert [trace.result for trace in chains[0]] == [trace.result for trace in chains[1]]
    assert len({trace.result for trace in chains[0]}) > 2


@pytest.mark.parametrize("language", ["C++", "Python"])
@pytest.mark.parametrize("kernel", ["random_walk", "lightweight"])
def test_a_kept_value_that_cannot_be_there_never_reaches_the_program(kernel, language):
    """Where a move makes a kept choice, or a kept number, impossible: an array is not read beyond its end.

    The chain of the program in this process is the same, to the bit.
    """
    started = (
        command("unknown_size") if language == "Python" else [str(built("programs")), "{endpoint}", "unknown_size"]
    )
    settings = {"kernel": kernel, "burn_in": 0, "seed": 5, "progress": False}
    with ppl.RemoteModel(command=started, timeout=WAIT) as simulator:
        remote = ppl.metropolis_hastings(simulator, {}, 1500, **settings)
    local = ppl.metropolis_hastings(remote_programs.unknown_size, {}, 1500, **settings)
    assert len({trace.result for trace in local}) == 3
    assert numbers(remote) == numbers(local)
