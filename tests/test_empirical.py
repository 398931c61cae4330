"""Empirical: statistics of weighted samples, selections, pooling."""

import math

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given
from programs import GUM_DATA, GUM_LOG_EVIDENCE, GUM_MEAN, GUM_STDDEV, gum
from scipy.special import logsumexp

import ppl_jax as ppl
import ppl_jax.distributions as dist
from ppl_jax.empirical import Empirical
from ppl_jax.empirical.statistics import BLOCK
from ppl_jax.errors import DegenerateWeightsError, PPLError

LOG_WEIGHTS = st.lists(st.floats(-700, 700) | st.just(-math.inf), min_size=1, max_size=30).filter(
    lambda weights: max(weights) > -math.inf
)


def normal_samples(n, seed=0, shape=()):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, *shape)), rng.normal(size=n)


@pytest.fixture(scope="module")
def posterior():
    return ppl.importance_sampling(gum, GUM_DATA, num_traces=4000, seed=1, progress=False)


# -- weights -----------------------------------------------------------------------------------------------------------


@given(LOG_WEIGHTS)
def test_weights_are_normalised(log_weights):
    samples = Empirical(np.arange(len(log_weights)), log_weights)
    expected = np.exp(np.array(log_weights) - logsumexp(log_weights))
    np.testing.assert_allclose(samples.weights, expected, rtol=1e-9, atol=1e-300)
    assert samples.effective_sample_size == pytest.approx(1 / np.sum(expected**2))
    assert 1 - 1e-9 <= samples.effective_sample_size <= len(log_weights) + 1e-6


def test_equal_weights_by_default():
    samples = Empirical([1.0, 2.0, 4.0])
    assert samples.weights.tolist() == pytest.approx([1 / 3] * 3)
    assert samples.effective_sample_size == pytest.approx(3) and samples.num_chains == 1


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_bad_weights_are_refused(bad):
    with pytest.raises(DegenerateWeightsError, match=r"1 of 3 log weights are NaN or \+inf, the first that of value 1"):
        Empirical([1.0, 2.0, 3.0], [0.0, bad, -1.0])


def test_weights_of_another_number():
    with pytest.raises(PPLError, match=r"3 values need log weights of shape \(3,\), but their shape is \(2,\)"):
        Empirical([1.0, 2.0, 3.0], [0.0, 1.0])


def test_impossible_number_of_chains():
    for num_chains in (0, 4):
        with pytest.raises(PPLError, match="num_chains"):
            Empirical([1.0, 2.0, 3.0], num_chains=num_chains)


@pytest.mark.parametrize("values", [[], [1.0, 2.0]])
def test_without_weight_there_are_no_statistics(values):
    samples = Empirical(values, [-math.inf] * len(values))
    assert "all weights zero" in repr(samples) and len(samples) == len(values)
    for statistic in ("weights", "effective_sample_size", "mean", "stddev", "mode", "median", "standard_error"):
        with pytest.raises(DegenerateWeightsError, match="no expectation exists"):
            getattr(samples, statistic)
    for call in (samples.resample, lambda: samples.expectation(float), lambda: samples.quantile(0.5)):
        with pytest.raises(DegenerateWeightsError):
            call()
    with pytest.raises(DegenerateWeightsError):
        samples.reweight(lambda value: 0.0)
    with pytest.raises(DegenerateWeightsError):
        samples.filter(lambda value: True)


def test_weights_cannot_be_written_to():
    given_weights = np.zeros(3)
    samples = Empirical([1.0, 2.0, 3.0], given_weights)
    with pytest.raises(ValueError, match="read-only"):
        samples.log_weights[0] = 1.0
    given_weights[0] = 1.0  # the caller's array stays the caller's


# -- statistics --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(), (3,), (2, 2)])
def test_moments_are_numpys(shape):
    values, log_weights = normal_samples(500, shape=shape)
    samples, weights = Empirical(values, log_weights), np.exp(log_weights)
    mean = np.average(values, axis=0, weights=weights)
    np.testing.assert_allclose(samples.mean, mean, rtol=1e-12)
    np.testing.assert_allclose(samples.variance, np.average((values - mean) ** 2, axis=0, weights=weights), rtol=1e-12)
    np.testing.assert_allclose(samples.stddev, np.sqrt(samples.variance), rtol=1e-15)
    np.testing.assert_allclose(samples.expectation(lambda x: x**2), np.average(values**2, axis=0, weights=weights))
    assert np.shape(samples.mean) == np.shape(samples.median) == np.shape(samples.standard_error) == shape
    assert (type(samples.mean) is float) == (shape == ())


def test_values_are_read_block_by_block():
    values, log_weights = normal_samples(BLOCK // 100 + 7, shape=(200,))
    np.testing.assert_allclose(
        Empirical(values, log_weights).mean, np.average(values, axis=0, weights=np.exp(log_weights)), atol=1e-12
    )


def test_values_of_weight_zero_do_not_count():
    samples = Empirical([1.0, math.nan, math.inf, 3.0], [0.0, -math.inf, -math.inf, 0.0], log_evidence=0.0)
    assert (samples.mean, samples.variance, samples.median, samples.quantile(1.0)) == (2.0, 1.0, 2.0, 3.0)
    assert samples.standard_error == pytest.approx(math.sqrt(0.5))
    assert samples.expectation(lambda x: x) == 2.0


@pytest.mark.parametrize("shape", [(), (2,)])
def test_quantiles_with_equal_weights_are_numpys(shape):
    values, _ = normal_samples(101, shape=shape)
    q = np.linspace(0, 1, 23)
    np.testing.assert_allclose(Empirical(values).quantile(q), np.quantile(values, q, axis=0, method="hazen"), rtol=1e-9)
    assert np.shape(Empirical(values).quantile([[0.1, 0.2]])) == (1, 2, *shape)


def test_weighted_quantiles_by_hand():
    samples = Empirical([30.0, 10.0, 20.0], np.log([2.0, 1.0, 1.0]))  # 10, 20, 30 stand at 1/8, 3/8, 3/4
    assert samples.quantile([0.0, 0.125, 0.25, 0.375, 0.75, 1.0]).tolist() == pytest.approx([10, 10, 15, 20, 30, 30])
    assert samples.median == pytest.approx(20 + 10 * (0.5 - 0.375) / 0.375)


@given(LOG_WEIGHTS, st.floats(0, 1), st.floats(0, 1))
def test_quantiles_grow_with_probability(log_weights, p, q):
    samples = Empirical(np.sin(np.arange(len(log_weights)) * 7.0), log_weights)
    low, high = samples.quantile(sorted([p, q]))
    assert low <= high and samples.quantile(0.0) <= low and high <= samples.quantile(1.0)


def test_impossible_probabilities():
    for q in (-0.1, 1.1, math.nan, [0.5, 2.0]):
        with pytest.raises(PPLError, match=r"probabilities of quantiles must be in \[0, 1\]"):
            Empirical([1.0, 2.0]).quantile(q)


def test_mode_takes_equal_values_together():
    assert Empirical([1, 2, 1, 3], np.log([2.0, 3.0, 2.0, 1.0])).mode == 1
    assert Empirical([1.5, 2.5, 0.5]).mode == 1.5
    assert Empirical(["a", "b", "b"]).mode == "b"
    assert Empirical([[1], "b", [1]], np.log([2.0, 3.0, 2.0])).mode == "b"
    assert Empirical(np.array([[0, 1], [1, 1], [0, 1]])).mode.tolist() == [0, 1]


def test_mode_of_traces_is_the_heaviest(posterior):
    assert posterior.mode["mu"] == posterior[int(np.argmax(posterior.log_weights))]["mu"]


def test_standard_error_of_importance_sampling(posterior):
    mu = posterior.map("mu")
    expected = math.sqrt(np.sum(mu.weights**2 * (mu.values - mu.mean) ** 2))
    assert mu.standard_error == pytest.approx(expected)
    # Data near the prior mean, so that the weights are mild. Over 60 runs the squared errors in units of the standard
    # error have mean 1 and standard deviation sqrt(2 / 60) = 0.18; three of these.
    data, mean, squares = {"obs0": 1.0, "obs1": 2.0}, (1 / 5 + 3 / 2) / (1 / 5 + 2 / 2), []
    for seed in range(60):
        run = ppl.importance_sampling(gum, data, num_traces=500, seed=seed, progress=False).map("mu")
        squares.append(((run.mean - mean) / run.standard_error) ** 2)
    assert np.mean(squares) == pytest.approx(1.0, abs=0.55)


def autoregressive(r, n, rng):
    """An AR(1) chain with coefficient r and unit innovations, begun in its stationary distribution."""
    noise, chain = rng.normal(size=n), np.empty(n)
    state = rng.normal() / math.sqrt(1.0 - r * r)
    for i in range(n):
        chain[i] = state = r * state + noise[i]
    return chain


def test_standard_error_of_a_chain():
    """n var(mean) -> 1 / (1 - r)^2."""
    r, n = 0.8, 100_000
    chain = autoregressive(r, n, np.random.default_rng(0))
    expected = math.sqrt(1 / n) / (1 - r)
    # Some 60 lags enter the sum: its relative standard deviation is about sqrt(2 * 2 * 60 / n) = 5 per cent, half of
    # that in the square root; four of these.
    assert Empirical(chain).standard_error == pytest.approx(expected, rel=0.1)
    assert Empirical(chain, num_chains=4).standard_error == pytest.approx(expected, rel=0.1)
    assert math.isnan(Empirical([1.0]).standard_error)
    assert Empirical(np.stack([chain, chain], 1)).standard_error.shape == (2,)


def test_standard_error_of_a_slow_chain():
    """A chain of some twenty independent pieces: squared errors in units of the standard error stay near 1."""
    rng, r, n = np.random.default_rng(1), 0.99, 4000
    chains = [Empirical(autoregressive(r, n, rng)) for _ in range(200)]
    squares = [(chain.mean / chain.standard_error) ** 2 for chain in chains]
    # An estimate from 20 pieces varies by a third, and so the squares are Student-like, with mean about 1.2 and
    # standard deviation about 2: the mean of 200 varies by 0.14, three of which are allowed.
    assert 0.75 < np.mean(squares) < 1.65


def test_standard_error_of_chains_that_disagree():
    """Four constant chains at four places say nothing about the mean but what their places say."""
    chain = np.repeat([0.0, 1.0, 2.0, 3.0], 1000)
    assert Empirical(chain, num_chains=4).standard_error > 0.3


def test_statistics_of_what_has_none(posterior):
    for statistic in ("mean", "variance", "stddev", "median", "standard_error"):
        with pytest.raises(PPLError, match=r"of traces is not defined. Choose .* posterior\.map\('name'\)"):
            getattr(posterior, statistic)
        for values in (["a", "b"], [np.zeros(2), np.zeros(3)], [1.0, None], [1j, 2j]):
            with pytest.raises(PPLError, match="needs values that are all real numbers"):
                getattr(Empirical(values), statistic)


def test_evidence_that_is_not_known():
    assert not Empirical([1.0]).has_log_evidence
    with pytest.raises(PPLError, match=r"no estimate of the evidence.* Use importance sampling .* or SMC"):
        _ = Empirical([1.0]).log_evidence


# -- the Gaussian with unknown mean ------------------------------------------------------------------------------------


def test_posterior_of_the_gaussian(posterior):
    mu = posterior.map("mu")
    assert abs(mu.mean - GUM_MEAN) < 4 * mu.standard_error
    # The weighted variance's own error: sqrt(2 / ESS) of it, four times.
    assert mu.variance == pytest.approx(GUM_STDDEV**2, rel=4 * math.sqrt(2 / mu.effective_sample_size))
    # The relative error of the evidence: sqrt((n / ESS - 1) / n), four times.
    n = len(posterior)
    error = 4 * math.sqrt((n / posterior.effective_sample_size - 1) / n)
    assert posterior.log_evidence == pytest.approx(GUM_LOG_EVIDENCE, abs=error)


def test_map_by_name_is_map_by_function(posterior):
    by_name, by_function = posterior.map("mu"), posterior.map(lambda trace: trace["mu"])
    np.testing.assert_array_equal(by_name.values, by_function.values)
    np.testing.assert_array_equal(posterior.results.values, by_name.values)
    np.testing.assert_array_equal(posterior.map(("mu", 1)).values, by_name.values)
    assert by_name.log_evidence == posterior.log_evidence
    np.testing.assert_array_equal(by_name.log_weights, posterior.log_weights)
    from_list = Empirical(list(posterior), posterior.log_weights).map("mu")
    np.testing.assert_array_equal(from_list.values, by_name.values)
    assert posterior.expectation(lambda trace: trace["mu"]) == pytest.approx(by_name.mean)


def test_map_of_what_has_no_names(posterior):
    with pytest.raises(KeyError, match="the names that occur"):
        posterior.map("nu")
    with pytest.raises(PPLError, match="The values are no traces"):
        posterior.map("mu").map("mu")


def test_map_to_other_things(posterior):
    assert posterior[:3].map(lambda trace: "text").values == ["text"] * 3
    assert posterior[:3].map(lambda trace: [trace["mu"]]).values[0] == [posterior[0]["mu"]]
    assert posterior[:3].map(lambda trace: np.array([trace["mu"], 1.0])).values.shape == (3, 2)
    assert posterior[:3].map(lambda trace: trace["mu"] > 2).values.dtype == bool


# -- selections --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("values", [np.arange(10.0), [str(k) for k in range(10)]])
def test_selections(values):
    samples = Empirical(values, np.arange(10.0), log_evidence=1.0)
    assert samples[3] == values[3] and samples[-1] == values[9]
    mask = np.arange(10) % 2 == 0
    for index in (slice(2, 5), [7, 2], mask, [], slice(None, None, -1)):
        expected = np.arange(10)[np.array(index, dtype=int) if isinstance(index, list) else index]
        assert list(samples[index]) == [values[k] for k in expected]
        assert samples[index].log_weights.tolist() == expected.tolist()
    assert isinstance(samples[2:3], Empirical) and list(samples) == list(values)
    for index in (10, -11):
        with pytest.raises(IndexError):
            samples[index]


def test_chains_and_thinning():
    samples = Empirical(np.arange(11), num_chains=3)
    assert [list(chain) for chain in samples.chains] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10]]
    thinned = samples.thin(2)
    assert [list(chain) for chain in thinned.chains] == [[0, 2], [4, 6], [8, 10]]
    assert samples.map(lambda x: -x).num_chains == 3 and samples[:5].num_chains == 1
    with pytest.raises(PPLError, match="step must be a positive integer"):
        samples.thin(0)


@pytest.mark.parametrize("method", ["systematic", "multinomial"])
def test_resampling(posterior, method):
    mu = posterior.map("mu")
    equal = mu.resample(2000, seed=3, method=method)
    assert len(equal) == 2000 and np.ptp(equal.weights) == 0.0
    # Copies are not new samples: the worth is that of the originals, less what the resampling loses.
    assert 0.8 * mu.effective_sample_size < equal.effective_sample_size < 1.05 * mu.effective_sample_size
    assert equal.standard_error == pytest.approx(mu.standard_error, rel=0.15)
    assert equal.log_evidence == mu.log_evidence
    np.testing.assert_array_equal(equal.values, mu.resample(2000, seed=3, method=method).values)
    assert not np.array_equal(equal.values, mu.resample(2000, seed=4, method=method).values)
    assert abs(equal.mean - mu.mean) < 4 * mu.stddev / math.sqrt(2000)
    assert posterior.resample(10, seed=3, method=method)[0]["mu"] in mu.values
    assert len(mu.resample(seed=0)) == len(mu) and len(mu.resample(0, seed=0)) == 0


@given(LOG_WEIGHTS, st.integers(1, 40), st.integers(0, 2**64 - 1))
def test_systematic_resampling_takes_floor_or_ceiling(log_weights, count, seed):
    samples = Empirical(np.arange(len(log_weights)), log_weights)
    taken = np.bincount(samples.resample(count, seed=seed).values, minlength=len(samples))
    assert np.all(np.abs(taken - count * samples.weights) < 1 + 1e-9)
    assert not np.any(taken[samples.weights == 0])


def test_resampling_that_is_not_there():
    for arguments in ({"method": "magic"}, {"num_samples": -1}):
        with pytest.raises(PPLError, match="method one of systematic, multinomial"):
            Empirical([1.0]).resample(seed=0, **arguments)


def coins():
    first = ppl.sample(dist.Bernoulli(0.5), name="first")
    if first:
        ppl.sample(dist.Bernoulli(np.array([0.5, 0.5])), name="pair")
    ppl.observe(dist.Bernoulli(0.8 if first else 0.2), name="seen")
    ppl.tag("heads" if first else "tails", name="side")


@pytest.mark.parametrize("as_list", [False, True])
def test_conditioning(as_list):
    posterior = ppl.importance_sampling(coins, {"seen": 1}, num_traces=2000, seed=0, progress=False)
    if as_list:
        posterior = Empirical(list(posterior), posterior.log_weights, log_evidence=posterior.log_evidence)
    heads = posterior.condition(first=1)
    assert all(trace["first"] == 1 for trace in heads)
    share = posterior.map("first").mean
    assert heads.log_evidence == pytest.approx(posterior.log_evidence + math.log(share))
    for same in (
        posterior.condition(side="heads"),
        posterior.filter(lambda trace: trace["first"] == 1),
        posterior.condition(lambda trace: trace["first"] == 1),
        posterior.condition(lambda trace: trace["first"] == 1, side="heads"),
    ):
        assert len(same) == len(heads) and same.log_evidence == pytest.approx(heads.log_evidence)
    pair = posterior.condition(pair=[1, 0])
    assert 0 < len(pair) < len(heads) and all(trace["pair"].tolist() == [1, 0] for trace in pair)
    with pytest.raises(DegenerateWeightsError, match="0 of 2000 samples meet the condition"):
        posterior.condition(first=2)
    with pytest.raises(DegenerateWeightsError):
        posterior.condition(pair=[1, 0, 1])
    with pytest.raises(KeyError, match="second"):
        posterior.condition(second=1)
    with pytest.raises(PPLError, match="The values are no traces"):
        posterior.map("first").condition(first=1)


def test_reweighting(posterior):
    """The posterior given one more observation, from that without it: against conjugacy."""

    def log_factor(trace):
        return -0.5 * (10.0 - trace["mu"]) ** 2 / 2 - 0.5 * math.log(2 * math.pi * 2)

    further = posterior.reweight(log_factor)
    mu = further.map("mu")
    precision = 1 / 5 + 3 / 2
    assert abs(mu.mean - (1 / 5 + 27 / 2) / precision) < 4 * mu.standard_error
    expected = logsumexp([w + log_factor(t) for w, t in zip(posterior.log_weights, posterior, strict=True)])
    assert further.log_evidence == pytest.approx(expected - math.log(len(posterior)))
    again = posterior.reweight(np.array([log_factor(trace) for trace in posterior]))
    np.testing.assert_array_equal(again.log_weights, further.log_weights)
    for factor in (math.nan, math.inf):
        with pytest.raises(DegenerateWeightsError):
            posterior.reweight(lambda trace, factor=factor: factor)


# -- pooling -----------------------------------------------------------------------------------------------------------


def test_pooling_the_parts_of_a_run_gives_the_run(posterior):
    parts = [posterior[:700], posterior[700:2500], posterior[2500:]]
    pooled = Empirical.combine(parts)
    np.testing.assert_allclose(pooled.log_weights, posterior.log_weights)
    assert pooled.log_evidence == pytest.approx(posterior.log_evidence)
    np.testing.assert_array_equal(pooled.map("mu").values, posterior.map("mu").values)
    assert pooled.num_chains == 1
    filtered = Empirical.combine([part.filter(lambda trace: trace["mu"] > 2) for part in parts])
    assert filtered.log_evidence == pytest.approx(posterior.filter(lambda trace: trace["mu"] > 2).log_evidence)


def test_pooling_keeps_raw_weights():
    one = Empirical([0.0, 1.0], np.log([1.0, 3.0]), log_evidence=math.log(2.0))
    other = Empirical([5.0], [math.log(10.0)], log_evidence=math.log(10.0))
    pooled = Empirical.combine([one, other])
    np.testing.assert_allclose(np.exp(pooled.log_weights), [1.0, 3.0, 10.0])
    assert pooled.log_evidence == pytest.approx(math.log(14 / 3)) and pooled.mean == pytest.approx(53 / 14)
    resampled = Empirical.combine([one.resample(2, seed=0), other])
    np.testing.assert_allclose(np.exp(resampled.log_weights), [2.0, 2.0, 10.0])
    dead = Empirical([7.0], [-math.inf], log_evidence=-math.inf)
    assert Empirical.combine([one, dead]).log_evidence == pytest.approx(math.log(4 / 3))
    assert Empirical.combine([dead, dead]).log_evidence == -math.inf


def test_pooling_chains():
    one, other = Empirical(np.arange(4), num_chains=2), Empirical(np.arange(4, 6))
    pooled = Empirical.combine([one, other])
    assert [list(chain) for chain in pooled.chains] == [[0, 1], [2, 3], [4, 5]]
    assert pooled.weights.tolist() == [1 / 6] * 6
    with pytest.raises(PPLError, match=r"have the lengths \[2, 2, 4\]"):
        Empirical.combine([one, Empirical(np.arange(4))])


def test_what_cannot_be_pooled(posterior):
    for runs, message in (
        ([], "at least one posterior"),
        ([Empirical([])], "at least one posterior"),
        ([Empirical([1.0]), Empirical([1.0], log_evidence=0.0)], "of one sort"),
        ([Empirical([1.0]), Empirical(["a"])], "all traces, all numbers of one shape, or all lists; they are list"),
        ([Empirical([1.0]), Empirical(np.zeros((1, 2)))], "all numbers of one shape"),
    ):
        with pytest.raises(PPLError, match=message):
            Empirical.combine(runs)
    assert Empirical.combine([Empirical(["a"]), Empirical(["b"])]).values == ["a", "b"]


# -- looks -------------------------------------------------------------------------------------------------------------


def test_repr(posterior):
    assert repr(Empirical([1.0, 2.0])) == "Empirical(2 values, effective_sample_size=2.0, mean=1.5)"
    assert repr(Empirical(["a", "b"], num_chains=2)) == "Empirical(2 values in 2 chains, effective_sample_size=2.0)"
    assert repr(posterior).startswith("Empirical(4000 traces, effective_sample_size=")


@pytest.mark.parametrize("stored", [True, False], ids=["stored", "in memory"])
def test_a_key_that_is_none_is_refused_and_what_is_not_there_is_missing(stored):
    run = ppl.prior(gum, 3, seed=0, progress=False)
    trace = run[0] if stored else ppl.handlers.trace(ppl.handlers.seed(gum, seed=0)).get_trace()
    assert trace["mu", 1] == trace["mu"] == trace["mu", np.int64(1)]
    for key in (0, ("mu",), ("mu", "2"), None):
        with pytest.raises(TypeError, match=r"by the name of its site, trace\['x'\]"):
            trace[key]
        assert key not in trace
    for key in ("nu", ("mu", 2), ("mu", 0), ("mu", -1)):
        with pytest.raises(KeyError, match="among its names"):
            trace[key]
        assert key not in trace


def test_samples_are_not_asked_for_by_name():
    run = ppl.prior(gum, 3, seed=0, progress=False)
    with pytest.raises(TypeError, match=r"posterior.map\('mu'\)"):
        run["mu"]
    with pytest.raises(TypeError, match="a function of a value, or the name of a site, got 0"):
        run.map(0)
    for method in (run.expectation, run.filter):
        with pytest.raises(TypeError, match="needs a function of a value, got 'mu'"):
            method("mu")


# -- several quantities at once ----------------------------------------------------------------------------------------


def pair():
    a = ppl.sample(dist.Normal(0.0, 1.0), name="a")
    b = ppl.sample(dist.Normal(np.array([a, -a]), 1.0), name="b")
    ppl.observe(dist.Normal(b, 1.0), name="y")


@pytest.fixture(scope="module")
def pairs():
    return ppl.importance_sampling(pair, {"y": np.array([0.5, 0.5])}, 500, seed=1, progress=False)


@pytest.mark.parametrize("statistic", ["mean", "variance", "stddev", "median", "standard_error"])
def test_statistics_of_several_names_and_of_tuples_are_those_of_each(pairs, statistic):
    one, other = (getattr(pairs.map(name), statistic) for name in "ab")
    by_name = getattr(pairs.map(["a", "b"]), statistic)
    assert by_name.keys() == {"a", "b"} and by_name["a"] == one and np.array_equal(by_name["b"], other)
    as_tuple = getattr(pairs.map(lambda trace: (trace["a"], trace["b"])), statistic)
    assert as_tuple[0] == one and np.array_equal(as_tuple[1], other)


def test_quantiles_of_several_names(pairs):
    found = pairs.map(["a", "b"]).quantile([0.1, 0.9])
    assert np.array_equal(found["a"], pairs.map("a").quantile([0.1, 0.9])) and found["b"].shape == (2, 2)
    with pytest.raises(KeyError, match="no site named 'c'"):
        pairs.map(["a", "c"])
    mixed = Empirical([{"a": 1.0}, {"b": 2.0}])
    with pytest.raises(PPLError, match="needs values that are all real numbers"):
        mixed.mean  # noqa: B018


def test_chains_may_be_called():
    samples = Empirical(np.arange(10.0), num_chains=2)
    assert [list(chain) for chain in samples.chains()] == [list(chain) for chain in samples.chains]
    assert len(samples.chains) == 2 and isinstance(samples.chains, list)
