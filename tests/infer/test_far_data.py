"""Networks far from what they were trained on: data are squashed and told, proposals stay near the prior.

The program draws t ~ Normal(0, 4) and observes three counts of rate exp(t); its posterior is found by quadrature.
"""

import math
import re
from dataclasses import replace
from functools import cache, partial

import numpy as np
import pytest
from infer.scoped_programs import untrained
from nn.small_network import SMALL, gum_network
from programs import GUM_DATA, gum

import ppl_jax as ppl
import ppl_jax.distributions as dist
from ppl_jax.nn import FeedForward
from ppl_jax.nn.ranges import held
from ppl_jax.running.broken import improbable


def counts(most=math.inf):
    """Fails where a rate passes ``most``."""
    t = ppl.sample(dist.Normal(0.0, 4.0), name="t", address="t")
    rate = math.exp(t)
    if rate > most:
        raise OverflowError("the table of rates ends here")
    for name in ("a", "b", "c"):
        ppl.observe(dist.Poisson(rate), name=name)


def data(count):
    return dict.fromkeys(("a", "b", "c"), count)


@cache
def network():
    """Trained on 12,000 traces."""
    return ppl.train(counts, 12_000, seed=0, validation_traces=200, **SMALL)


def infer(model, given, number, proposal, **settings):
    return ppl.importance_sampling(model, given, number, proposal=proposal, progress=False, **settings)


def exact(count):
    """Posterior mean and standard deviation of t, and log evidence, on a grid of 200,001 points over the posterior."""
    mode = math.log(max(count, 1e-9)) if count else -4.0
    width = 40.0 / math.sqrt(3.0 * count + 1.0 / 16.0)
    t = np.linspace(mode - width, mode + width, 200_001)
    log_joint = -t * t / 32.0 - math.log(4.0 * math.sqrt(2.0 * math.pi))
    log_joint += 3.0 * (count * t - np.exp(t) - math.lgamma(count + 1.0))
    weights = np.exp(log_joint - log_joint.max())
    mean = (weights * t).sum() / weights.sum()
    stddev = math.sqrt((weights * (t - mean) ** 2).sum() / weights.sum())
    return mean, stddev, math.log(weights.sum() * (t[1] - t[0])) + log_joint.max()


@pytest.mark.parametrize("count", [0, 3, 100, 1000])
def test_the_posterior_is_found_where_counts_span_six_orders_of_magnitude(count):
    """Means within four of their standard errors, and the evidence within four of its own: sqrt(1 / ESS - 1 / n)."""
    posterior = infer(counts, data(count), 2000, network(), seed=1)
    mean, _, log_evidence = exact(count)
    t = posterior.map("t")
    assert posterior.effective_sample_size > 50
    assert abs(t.mean - mean) < 4.0 * t.standard_error
    assert abs(posterior.log_evidence - log_evidence) < 4.0 / math.sqrt(posterior.effective_sample_size)


@pytest.mark.parametrize("count", [1e9, 1e12])
def test_data_far_outside_of_training_are_told_and_do_not_end_the_run(count):
    """The prior has 4 standard deviations at most in 12,000 traces; 1e9 lies at 5.2, where nothing can be right."""
    message = rf"far outside .*12,\d+ traces.*'a' is {re.escape(f'{count:.6g}')} \(in training 0 to .*effective sample"
    with pytest.warns(UserWarning, match=message):
        posterior = infer(counts, data(count), 200, network(), seed=1)
    values = posterior.map("t").values
    assert len(posterior) == 200
    assert np.abs(values).max() < 4.0 * (12.0 + 5.0 * math.exp(2.5))
    expected = dist.Normal(0.0, 4.0)
    best = posterior[int(np.argmax(posterior.log_weights))]
    joint = expected.log_prob(best["t"]) + 3.0 * dist.Poisson(math.exp(best["t"])).log_prob(count)
    assert best.log_joint == pytest.approx(joint)


def test_weights_are_exact_far_from_training():
    """Of a network whose locations run off to thousands of standard deviations; the prior's share is a half.

    The evidence within four standard errors, of weights that the prior's share bounds by 2.
    """

    def model():
        t = ppl.sample(dist.Normal(0.0, 4.0), name="t", address="t")
        ppl.observe(dist.Normal(t, 3.0), name="y")

    fresh = untrained(model)
    config = replace(fresh.config, prior_share=0.5)
    biases = np.zeros((config.capacity, config.width), np.float32)
    biases[:, config.components : 2 * config.components] = 3e3
    wild = replace(fresh, config=config, params=fresh.params | {"biases": biases})
    posterior = infer(model, {"y": 1.0}, 4000, wild, seed=3)
    values = posterior.map("t").values
    assert 4.0 * 12.0 < values.max() < 4.0 * (12.0 + 5.0)
    weights = np.exp(posterior.log_weights - dist.Normal(0.0, 5.0).log_prob(1.0))
    assert abs(weights.mean() - 1.0) < 4.0 * weights.std() / math.sqrt(4000)


# -- executions that a proposed value breaks ---------------------------------------------------------------------------


def wide(site):
    return dist.Normal(0.0, 12.0)


@pytest.mark.parametrize("how", ["network", "function", "inflation", "workers"])
def test_executions_that_proposed_values_break_have_weight_zero(how):
    """Rates above e**8, two standard deviations, have no density to speak of where the counts are 3.

    The mean and the evidence, which counts the failed executions, within four standard errors.
    """
    settings = {
        "network": {"proposal": replace(network(), params=spread(network()))},
        "function": {"proposal": wide},
        "inflation": {"prior_inflation": 3.0},
        "workers": {"proposal": wide, "num_workers": 2},
    }[how]
    model = partial(counts, math.exp(8.0))
    with pytest.warns(RuntimeWarning, match=r"of 6,000 executions failed at values.*weight zero.*proposed the value"):
        posterior = ppl.importance_sampling(model, data(3), 6000, seed=2, progress=False, backend="host", **settings)
    mean, _, log_evidence = exact(3)
    t = posterior.map("t")
    assert 3000 < len(posterior) < 6000
    assert posterior.num_executions == 6000
    assert abs(t.mean - mean) < 4.0 * t.standard_error
    assert abs(posterior.log_evidence - log_evidence) < 4.0 / math.sqrt(posterior.effective_sample_size)


def spread(of):
    """Parameters by which all components are four prior standard deviations wide."""
    config = of.config
    bias = np.zeros(config.width, np.float32)
    bias[2 * config.components :] = math.log(4.0)
    return dict(of.params) | {"heads": 0.0 * of.params["heads"], "biases": np.tile(bias, (config.capacity, 1))}


def test_a_run_of_which_most_executions_fail_ends_in_the_first_error():
    """It is then the program that is wrong; what was finished is kept."""
    message = r"table of rates ends here.*network had proposed the value .* site 't'"
    with pytest.raises(ppl.ModelError, match=message) as caught:
        infer(partial(counts, 0.1), data(3), 200, network(), seed=1, lockstep=16)
    assert len(caught.value.finished) < 100
    assert "with so many it is not the proposals" in caught.value.__notes__[0]


def test_an_error_at_values_that_the_prior_gives_ends_the_run():
    """It is the program's: a run without a network would end by it too."""

    def model():
        counts()
        raise RuntimeError("the program is wrong")

    with pytest.raises(ppl.ModelError, match=r"the program is wrong.*the network had proposed the value"):
        infer(model, data(3), 100, network(), seed=1)


def test_an_error_at_values_that_the_prior_never_gives_is_forgiven_whatever_it_is():
    def model():
        t = ppl.sample(dist.Normal(0.0, 4.0), name="t")
        if abs(t) > 18.0:
            raise RuntimeError("the simulator gave up")
        ppl.observe(dist.Normal(t, 1.0), name="y")

    with pytest.warns(RuntimeWarning, match=r"of 1,000 executions failed.*gave up"):
        posterior = infer(model, {"y": 1.0}, 1000, wide, seed=1)
    assert posterior.map("t").mean == pytest.approx(16.0 / 17.0, abs=4.0 * posterior.map("t").standard_error)


def test_interruptions_are_never_forgiven():
    def model():
        counts()
        raise SystemExit

    with pytest.raises(SystemExit):
        infer(model, data(3), 100, network(), seed=1)


def test_factors_that_are_nan_at_proposed_values_weigh_nothing():
    def model():
        t = ppl.sample(dist.Normal(0.0, 4.0), name="t")
        ppl.factor(math.nan if t > 12.0 else -0.5 * t * t)

    with pytest.warns(RuntimeWarning, match=r"executions failed.*'log_factor'.*NaN.*the given proposal had proposed"):
        posterior = infer(model, {}, 1000, wide, seed=1)
    t = posterior.map("t")
    assert abs(t.mean) < 4.0 * t.standard_error


def test_chains_reject_what_a_proposed_value_breaks():
    """Failed moves are rejected: the stationary distribution is the posterior, within four standard errors."""
    model = partial(counts, math.exp(8.0))
    broken = replace(network(), params=spread(network()))
    with pytest.warns(RuntimeWarning, match=r"executions failed.*rejected.*the network had proposed"):
        posterior = ppl.metropolis_hastings(
            model, data(3), 1500, proposal=broken, proposal_share=1.0, num_chains=4, seed=2, progress=False
        )
    mean, _, _ = exact(3)
    t = posterior.map("t")
    assert len(posterior) == 1500
    assert abs(t.mean - mean) < 4.0 * t.standard_error


@pytest.mark.parametrize(
    ("prior", "likely", "unlikely"),
    [
        (dist.Normal(0.0, 4.0), 12.0, 20.0),
        (dist.Exponential(1.0), 6.0, 14.0),
        (dist.Uniform(0.0, 1.0), 1e-9, 1.5),
        (dist.Poisson(3.0), 9, 20),
        (dist.Categorical([0.999, 0.001]), 1, 2),
        (dist.Bernoulli(1e-6), 0, 1),
        (dist.Normal(np.zeros(3), np.ones(3)), np.full(3, 1.5), np.full(3, 4.0)),
    ],
)
def test_values_that_a_prior_all_but_never_gives(prior, likely, unlikely):
    assert not improbable(prior, likely)
    assert improbable(prior, unlikely)


# -- observations ------------------------------------------------------------------------------------------------------


def test_numbers_are_held_near_the_range_of_the_training():
    """Within it they stay to the bit; beyond it they move on, less and less, by a quarter of it."""
    known = np.float32(-2.0), np.float32(6.0)
    z = np.array([-1e30, -3.0, -2.0, 0.3, 6.0, 6.5, 9.0, 1e30])
    seen, far = zip(*(held(np.float64(one), known) for one in z), strict=True)
    assert seen[2:5] == (-2.0, 0.3, 6.0)
    assert seen[0] == -4.0 and seen[-1] == 8.0
    assert 6.0 < seen[5] < 6.5 < seen[6] < 8.0
    assert [bool(one) for one in far] == [True, False, False, False, False, False, True, True]


def test_of_networks_saved_earlier_only_what_is_very_far_is_held(tmp_path):
    """They know no range; a file of theirs has no entry for what is new."""
    gum_network().save(tmp_path / "new")
    loaded = ppl.load_network(tmp_path / "new")
    np.testing.assert_array_equal(loaded.ranges["obs0"], gum_network().ranges["obs0"])
    old = replace(gum_network(), ranges={}, config=replace(gum_network().config, bent=False))
    mean, stddev = old.scaling["obs0"]
    for z in (-30.0, 0.5, 30.0):
        assert old.standardised(GUM_DATA | {"obs0": mean + z * stddev})[0]["obs0"] == pytest.approx(z)
    assert old.standardised(GUM_DATA | {"obs0": 1e9})[0]["obs0"] < 50.0
    with pytest.warns(UserWarning, match=r"'obs0' is 1e\+09 \(its range in training was not kept; the network is told"):
        infer(gum, GUM_DATA | {"obs0": 1e9}, 10, old)


@pytest.mark.slow
def test_an_image_far_outside_is_told_by_its_farthest_element():
    """Of elements that never varied, any other number is far."""

    def model():
        mu = ppl.sample(dist.Normal(0.0, 1.0), name="mu", address="mu")
        ppl.observe(dist.Normal(mu * np.ones((4, 5)), np.where(np.arange(5) == 0, 1e-12, 1.0)), name="image")

    small = ppl.train(model, 256, seed=0, core=FeedForward(4, 1), batch_size=64, mixture_components=2, progress=False)
    image = np.zeros((4, 5))
    image[2, 3] = -1e4
    image[1, 2] = 1e3
    with pytest.warns(UserWarning, match=r"'image'\[2, 3\] is -10000 .*as do 2 of its 20 elements"):
        infer(model, {"image": image}, 10, replace(small, least_visits=0))


def test_a_network_that_computes_no_numbers_leaves_the_draws_to_the_prior():
    params = dict(gum_network().params) | {"biases": np.full_like(gum_network().params["biases"], np.nan)}
    with pytest.warns(UserWarning, match=r"gave NaN or infinity .*draw of Normal at programs:gum"):
        posterior = infer(gum, GUM_DATA, 50, replace(gum_network(), params=params), seed=6)
    assert np.isfinite(posterior.log_weights).all()
