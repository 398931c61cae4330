"""Prior simulation and importance sampling against exact answers; reproducibility; workers."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from programs import (
    BRANCHING_DATA,
    GUM_DATA,
    GUM_LOG_EVIDENCE,
    GUM_MEAN,
    GUM_STDDEV,
    HMM_DATA,
    RECURSION_DATA,
    SPRINKLER_DATA,
    branching,
    branching_posterior,
    gum,
    gum_marsaglia,
    hidden_markov,
    recursion,
    recursion_posterior,
    sprinkler,
    sprinkler_posterior,
)

import ppl_jax as ppl

QUIET = {"backend": "host", "progress": False}


@pytest.mark.parametrize("model", [gum, gum_marsaglia])
def test_prior_has_the_moments_of_the_prior(model):
    mu = ppl.prior(model, 10_000, seed=1, **QUIET).map(lambda trace: trace.result)
    error = np.sqrt(5.0 / len(mu))
    assert mu.mean == pytest.approx(1.0, abs=4 * error)
    assert mu.stddev == pytest.approx(np.sqrt(5.0), abs=4 * np.sqrt(5.0 / (2 * len(mu))))


@pytest.mark.parametrize("model", [gum, gum_marsaglia])
def test_gaussian_with_unknown_mean(model):
    posterior = ppl.importance_sampling(model, GUM_DATA, 20_000, seed=2, **QUIET)
    mu = posterior.map("mu")
    ess = posterior.effective_sample_size
    assert ess > 100
    assert mu.mean == pytest.approx(GUM_MEAN, abs=4 * GUM_STDDEV / np.sqrt(ess))
    assert mu.stddev == pytest.approx(GUM_STDDEV, abs=4 * GUM_STDDEV / np.sqrt(2 * ess))
    assert posterior.log_evidence == pytest.approx(GUM_LOG_EVIDENCE, abs=4 * evidence_error(posterior))


def evidence_error(posterior):
    """Standard error of the log evidence, by the delta method."""
    weights = np.exp(posterior.log_weights - posterior.log_weights.max())
    return float(weights.std() / weights.mean() / np.sqrt(len(weights)))


def test_discrete_network():
    exact, log_evidence = sprinkler_posterior()
    posterior = ppl.importance_sampling(sprinkler, SPRINKLER_DATA, 10_000, seed=3, **QUIET)
    rain = posterior.map("rain")
    error = np.sqrt(exact * (1 - exact) / posterior.effective_sample_size)
    assert rain.mean == pytest.approx(exact, abs=4 * error)
    assert posterior.log_evidence == pytest.approx(log_evidence, abs=4 * evidence_error(posterior))


@pytest.mark.parametrize(
    ("model", "data", "exact"),
    [(recursion, RECURSION_DATA, recursion_posterior()), (branching, BRANCHING_DATA, branching_posterior())],
)
def test_changing_structure(model, data, exact):
    probabilities, log_evidence = exact
    posterior = ppl.importance_sampling(model, data, 10_000, seed=4, **QUIET)
    results = posterior.map(lambda trace: trace.result)
    for value in range(8):
        estimate = posterior.weights[np.asarray(results.values) == value].sum()
        error = np.sqrt(probabilities[value] * (1 - probabilities[value]) / posterior.effective_sample_size)
        assert estimate == pytest.approx(probabilities[value], abs=4 * error + 1e-3 * (error == 0))
    assert posterior.log_evidence == pytest.approx(log_evidence, abs=4 * evidence_error(posterior))


def test_likelihood_importance_tempers():
    """GUM with the likelihood to the power 1/2: precision 1/5 + 2 * 1/2 * 1/2, mean weighted accordingly."""
    posterior = ppl.importance_sampling(gum, GUM_DATA, 10_000, likelihood_importance=0.5, seed=5, **QUIET)
    precision = 0.2 + 0.5
    mean, stddev = (0.2 * 1.0 + 0.25 * 17.0) / precision, precision**-0.5
    mu = posterior.map("mu")
    assert mu.mean == pytest.approx(mean, abs=4 * stddev / np.sqrt(posterior.effective_sample_size))
    with pytest.raises(ppl.PPLError, match="evidence"):
        _ = posterior.log_evidence


def test_same_seed_gives_equal_bits_and_another_seed_does_not():
    runs = [ppl.importance_sampling(gum_marsaglia, GUM_DATA, 500, seed=seed, **QUIET) for seed in (7, 7, 8)]
    assert np.array_equal(runs[0].log_weights, runs[1].log_weights)
    assert [trace["mu"] for trace in runs[0]] == [trace["mu"] for trace in runs[1]]
    assert not np.array_equal(runs[0].log_weights, runs[2].log_weights)


def test_a_longer_run_begins_with_the_shorter_one():
    short, long = (ppl.prior(gum_marsaglia, n, seed=7, **QUIET) for n in (300, 900))
    assert [trace.result for trace in short] == [trace.result for trace in long[:300]]


@pytest.mark.parametrize("model", [gum_marsaglia, hidden_markov])
def test_workers_do_not_change_the_result(model):
    data = HMM_DATA if model is hidden_markov else GUM_DATA
    alone = ppl.importance_sampling(model, data, 2500, seed=7, **QUIET)
    for number in (2, 3):
        shared = ppl.importance_sampling(model, data, 2500, seed=7, num_workers=number, **QUIET)
        assert np.array_equal(alone.log_weights, shared.log_weights)
        assert [trace.result for trace in alone] == [trace.result for trace in shared]
        last, same = alone[-1], shared[-1]
        assert [(s.address, s.instance, s.value, s.distribution) for s in last.sites] == [
            (s.address, s.instance, s.value, s.distribution) for s in same.sites
        ]


def test_on_disk_equals_in_memory(tmp_path):
    inside = ppl.importance_sampling(gum, GUM_DATA, 700, seed=9, **QUIET)
    outside = ppl.importance_sampling(gum, GUM_DATA, 700, seed=9, path=tmp_path / "traces", **QUIET)
    assert np.array_equal(inside.log_weights, outside.log_weights)
    assert [trace["mu"] for trace in inside] == [trace["mu"] for trace in outside]
    assert outside.log_evidence == inside.log_evidence


def test_another_process_gives_equal_bits():
    """Whatever the seed of Python's own hashes: no result hangs on the order of a set."""
    program = textwrap.dedent("""
        import hashlib, sys
        sys.path.insert(0, sys.argv[1])
        from programs import *

        digest, quiet = hashlib.sha256(), {"seed": 5, "progress": False}
        for posterior in (
            ppl.prior(branching, 300, backend="host", **quiet),
            ppl.importance_sampling(gum_marsaglia, GUM_DATA, 300, backend="host", **quiet),
            ppl.metropolis_hastings(branching, BRANCHING_DATA, 300, burn_in=50, num_chains=2, **quiet),
            ppl.smc(hidden_markov, HMM_DATA, 50, **quiet),
        ):
            digest.update(posterior.values.heap.tobytes() + posterior.log_weights.tobytes())
            digest.update(repr([[site.address for site in trace.sites] for trace in posterior]).encode())
            digest.update(str(posterior.resample(10, seed=1).log_weights).encode())
        print(digest.hexdigest())
    """)
    digests = {
        subprocess.run(
            [sys.executable, "-c", program, str(Path(__file__).parents[1])],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        ).stdout
        for hash_seed in ("1", "2")
    }
    assert len(digests) == 1 and digests != {""}
