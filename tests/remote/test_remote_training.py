"""A program in another process, from end to end: its own batches of traces, a dataset, a network, guided inference."""

import math
import sys

import jax
import numpy as np
import programs
import pytest
from nn.small_network import SMALL
from remote_simulators import HERE, WAIT

import ppl_jax as ppl
from ppl_jax.nn import LSTM

sys.path.append(str(HERE.parent / "ppx"))
from cpp_front_end import built


def posterior_of_trained(simulator, path, data, num_traces, seed=0, **settings):
    """Dataset, network, posterior and its prior-based counterpart, all from the same simulator."""
    dataset = ppl.save_dataset(simulator, path / "dataset", num_traces // 2, seed=seed, progress=False)
    network = ppl.train(dataset, num_traces, seed=seed, **{**SMALL, **settings})
    guided = ppl.importance_sampling(simulator, data, 600, proposal=network, seed=seed + 1, progress=False)
    plain = ppl.importance_sampling(simulator, data, 600, seed=seed + 1, progress=False)
    return network, guided, plain


def test_a_network_of_a_simulators_dataset_is_that_of_the_program(simulators, tmp_path):
    """Nothing on the way adds to the traces or takes from them: the parameters are the same bit for bit."""
    network, guided, plain = posterior_of_trained(simulators("gum"), tmp_path, programs.GUM_DATA, 2560)
    local = ppl.save_dataset(programs.gum, tmp_path / "local", 1280, seed=0, progress=False)
    again = ppl.train(local, 2560, seed=0, **SMALL)
    assert network.sites.known == again.sites.known
    jax.tree.map(np.testing.assert_array_equal, network.params, again.params)
    # Normal posterior: the standard error of the mean, four times.
    ess = guided.effective_sample_size
    assert abs(guided.map("mu").mean - programs.GUM_MEAN) < 4.0 * programs.GUM_STDDEV / math.sqrt(ess)
    assert ess > 3.0 * plain.effective_sample_size


@pytest.mark.slow
@pytest.mark.parametrize(
    ("program", "data", "log_evidence", "gain"),
    [
        ("gum_marsaglia", programs.GUM_DATA, programs.GUM_LOG_EVIDENCE, 10.0),
        ("branching", programs.BRANCHING_DATA, programs.branching_posterior()[1], 1.0),
        ("hidden_markov", programs.HMM_DATA, programs.hidden_markov_posterior()[1], 10.0),
    ],
)
def test_a_simulator_in_cpp_is_inverted(program, data, log_evidence, gain, tmp_path):
    """At data that are rare under the prior, where the network must be worth many times its number of traces.

    How good networks are at typical data is asked of the same programs in ``infer/test_compiled_quality.py``.
    """
    command = [str(built(program)), "{endpoint}"]
    with ppl.RemoteModel(command=command, timeout=WAIT, num_processes=2) as simulator:
        network, guided, plain = posterior_of_trained(
            simulator, tmp_path, data, 40_000, core=LSTM(48), mixture_components=8, batch_size=128, learning_rate=3e-3
        )
    ess = guided.effective_sample_size
    assert network.history[-1][0] == 40_064
    assert ess > max(60.0, gain * plain.effective_sample_size)  # fewer than 60 would make the errors below unreliable
    # The evidence within four of its standard errors, from the effective sample size.
    relative = math.sqrt(1.0 / ess - 1.0 / 600)
    assert abs(math.expm1(guided.log_evidence - log_evidence)) < 4.0 * relative
    if program == "gum_marsaglia":
        assert abs(guided.map("mu").mean - programs.GUM_MEAN) < 4.0 * programs.GUM_STDDEV / math.sqrt(ess)
        return
    if program == "branching":
        exact = programs.branching_posterior()[0]
        chosen = np.asarray(guided.map("r").values)
        found = np.array([guided.weights[chosen == k].sum() for k in range(len(exact))])
    else:
        exact = programs.hidden_markov_posterior()[0]
        states = np.array([[trace[f"x{step}"] for step in range(len(exact))] for trace in guided])
        found = np.stack([guided.weights @ (states == state) for state in range(3)], axis=1)
    # Frequencies of at most 60 outcomes: 4.5 standard errors, and one more trace.
    assert (abs(found - exact) < 4.5 * np.sqrt(exact * (1.0 - exact) / ess) + 1.0 / ess).all()
