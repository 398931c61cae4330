"""Models for which JAX's float32 will not do: "auto" stays on the host, "jax" and NUTS say so."""

import math
import warnings

import jax
import pytest

import ppl_jax as ppl
import ppl_jax.distributions as dist
from ppl_jax.running.backends import choose_backend
from ppl_jax.running.execution import NO_DATA
from ppl_jax.running.host import Job

NOW = 1.6e9  # seconds: neighbouring numbers of float32 are 128 apart


def time_stamp():
    moment = ppl.sample(dist.Normal(NOW, 5.0), name="moment")
    ppl.observe(dist.Normal(moment, 5.0), name="clock")


def offset():
    """The same with a latent of order 1: only the likelihood suffers."""
    delay = ppl.sample(dist.Normal(0.0, 5.0), name="delay")
    ppl.observe(dist.Normal(NOW + delay, 5.0), name="clock")


def billions():
    rate = ppl.sample(dist.Gamma(2.0, 1e-10), name="rate")
    ppl.observe(dist.Poisson(rate), name="count")


def ordinary():
    mean = ppl.sample(dist.Normal(0.0, 1.0), name="mean")
    ppl.observe(dist.Normal(mean, 1.0), name="y")


def job_of(model, observations=NO_DATA, score=True):
    return Job(model, observations, score, 1.0, (), 0)


@pytest.mark.parametrize(("model", "name", "prior_mean"), [(time_stamp, "moment", NOW), (offset, "delay", 0.0)])
def test_auto_is_right_where_single_precision_is_not(model, name, prior_mean):
    # Conjugate: prior and likelihood of equal width, a datum 6 above the prior mean.
    posterior = ppl.importance_sampling(model, {"clock": NOW + 6.0}, 10_000, seed=3, progress=False)
    found = posterior.map(name)
    assert abs(found.mean - prior_mean - 3.0) < 5.0 * 5.0 / math.sqrt(2.0 * posterior.effective_sample_size)
    assert found.stddev == pytest.approx(5.0 / math.sqrt(2.0), rel=0.05)  # its relative error: 1 / sqrt(2 * 7,000)
    exact = -0.5 * 36.0 / 50.0 - 0.5 * math.log(2.0 * math.pi * 50.0)
    assert posterior.log_evidence == pytest.approx(exact, abs=0.05)  # its standard error: 0.006


def test_counts_beyond_32_bits_are_left_to_the_host():
    assert choose_backend("auto", job_of(billions, score=False), 10_000) is None
    counts = ppl.prior(billions, 10_000, seed=0, progress=False).map("count")
    # The relative spread of Gamma(2) is 1 / sqrt(2).
    assert counts.mean == pytest.approx(2e10, rel=5.0 / math.sqrt(2.0 * 10_000))


@pytest.mark.parametrize(
    ("model", "observations", "place"),
    [
        (time_stamp, {"clock": NOW}, "sample site 'moment'"),
        (offset, {"clock": NOW}, "log weight"),
        (billions, {"count": 2e10}, "."),
    ],
)
def test_jax_warns(model, observations, place):
    with pytest.warns(RuntimeWarning, match=f"float32 will not do.*{place}.*jax_enable_x64.*backend='host'"):
        ppl.importance_sampling(model, observations, 100, backend="jax", seed=0, progress=False)


@pytest.mark.slow
def test_nuts_warns():
    with pytest.warns(RuntimeWarning, match="float32 will not do.*metropolis_hastings"):
        ppl.nuts(time_stamp, {"clock": NOW}, 5, burn_in=5, seed=0, progress=False)


@pytest.mark.parametrize("observations", [{"y": 1.0}, pytest.param({"y": 40.0}, marks=pytest.mark.slow)])
def test_nothing_is_said_of_other_models(observations):
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        assert choose_backend("auto", job_of(ordinary, observations), 10_000) is not None
        ppl.importance_sampling(ordinary, observations, 100, backend="jax", seed=0, progress=False)


def test_double_precision_does():
    with jax.enable_x64(True):
        assert choose_backend("auto", job_of(offset, {"clock": NOW}), 10_000) is not None


def test_a_model_for_jax_alone_is_believed():
    def indexed():
        mean = ppl.sample(dist.Normal(0.0, 1.0), name="mean")
        ppl.observe(dist.Normal(mean.astype(float), 1.0), name="y")  # the host's floats have no such method

    assert choose_backend("jax", job_of(indexed, {"y": 1.0}), 100) is not None
