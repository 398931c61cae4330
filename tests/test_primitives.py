"""What a model's statements mean outside and inside an execution, and what they record."""

import math
import threading

import numpy as np
import pytest
from programs import GUM_DATA, gum, recursion

import ppl_jax as ppl
import ppl_jax.distributions as dist
from ppl_jax import handlers


def test_a_model_runs_as_plain_python_outside_any_handler():
    def model():
        x = ppl.sample(dist.Normal(0.0, 1.0), name="x")
        y = ppl.observe(dist.Normal(x, 1.0), 2.0, name="y")
        z = ppl.observe(dist.Poisson(3.0), name="z")
        ppl.factor(-1.0)
        return x, y, z, ppl.tag(x + 1.0, name="t")

    x, y, z, t = model()
    assert isinstance(x, float)
    assert y == 2.0
    assert isinstance(z, int)
    assert t == x + 1.0
    assert model()[0] != x


def test_a_trace_records_every_statement_in_order():
    def model():
        x = ppl.sample(dist.Normal(0.0, 2.0), name="x")
        ppl.sample(dist.Uniform(0.0, 1.0), name="nuisance", control=False)
        ppl.observe(dist.Normal(x, 1.0), 0.5, name="y")
        ppl.factor(-1.5, name="f")
        ppl.tag({"twice": 2 * x}, name="t")
        return [x, "done"]

    trace = handlers.trace(handlers.seed(model, seed=3)).get_trace()
    assert [site.kind for site in trace.sites] == ["sample", "sample", "observe", "factor", "tag"]
    assert [site.observed for site in trace.sites] == [False, False, True, True, False]
    assert [site.control for site in trace.sites][:2] == [True, False]
    x, u = trace["x"], trace["nuisance"]
    prior = dist.Normal(0.0, 2.0).log_prob(x) + dist.Uniform(0.0, 1.0).log_prob(u)
    likelihood = dist.Normal(x, 1.0).log_prob(0.5) - 1.5
    assert trace.log_prob == pytest.approx(prior, abs=1e-12)
    assert trace.log_joint == pytest.approx(prior + likelihood, abs=1e-12)
    assert trace.log_importance_weight == pytest.approx(likelihood, abs=1e-12)
    assert trace.tags == {"t": {"twice": 2 * x}}
    assert trace.result == [x, "done"]
    assert [family for _, family in trace.type.draws] == ["Normal"]
    assert "y" in trace
    with pytest.raises(KeyError, match="among its names"):
        trace["nothing"]


def test_names_met_several_times():
    def model():
        for step in range(3):
            ppl.tag(step, name="step")

    trace = handlers.trace(model).get_trace()
    assert trace["step"] == 2
    assert [trace["step", k] for k in (1, 2, 3)] == [0, 1, 2]


def test_instances_count_the_visits_of_one_call_site():
    trace = ppl.prior(recursion, 50, seed=2, progress=False)
    for one in trace:
        stops = [site for site in one.sites if site.name == "stop"]
        assert len({site.address for site in stops}) == len(stops)  # recursion deepens the chain of calls
        assert all(site.instance == 1 for site in stops)

    def loop():
        return [ppl.sample(dist.Bernoulli(0.5)) for _ in range(4)]

    sites = ppl.prior(loop, 1, seed=2, progress=False)[0].sites
    assert len({site.address for site in sites}) == 1
    assert [site.instance for site in sites] == [1, 2, 3, 4]


def test_explicit_addresses_replace_automatic_ones():
    trace = handlers.trace(lambda: ppl.sample(dist.Normal(0.0, 1.0), address="here")).get_trace()
    assert trace.sites[0].address == "here"


def test_data_given_to_the_engine_win_over_the_value_in_the_model():
    def model():
        return ppl.observe(dist.Normal(0.0, 1.0), 1.0, name="y")

    posterior = ppl.importance_sampling(model, {"y": 3.0}, 2, seed=0, progress=False)
    assert posterior[0].result == 3.0
    assert posterior.log_weights[0] == pytest.approx(dist.Normal(0.0, 1.0).log_prob(3.0))


def test_a_sample_can_be_observed_by_name():
    posterior = ppl.importance_sampling(gum, {**GUM_DATA, "mu": 7.0}, 3, seed=0, progress=False)
    trace = posterior[0]
    assert trace["mu"] == 7.0
    assert trace.latents == []
    assert trace.log_joint == pytest.approx(trace.log_importance_weight)


def test_an_infinite_count_is_impossible():
    for infinite in (math.inf, np.float64("inf")):
        trace = ppl.prior(lambda: ppl.observe(dist.Poisson(3.0), infinite), 1, progress=False)[0]  # noqa: B023
        assert trace.log_likelihood == -math.inf


def test_array_valued_statements():
    def model():
        mu = ppl.sample(dist.Normal(np.zeros(3), 1.0), name="mu")
        ppl.observe(dist.Normal(mu, np.ones(3)), name="y")
        return mu

    trace = ppl.importance_sampling(model, {"y": [1.0, 2.0, 3.0]}, 1, seed=0, progress=False)[0]
    assert trace["mu"].shape == (3,)
    assert np.array_equal(trace["y"], [1.0, 2.0, 3.0])
    expected = sum(dist.Normal(m, 1.0).log_prob(y) for m, y in zip(trace["mu"], [1.0, 2.0, 3.0], strict=True))
    assert trace.log_importance_weight == pytest.approx(expected, abs=1e-9)


def test_threads_have_stacks_of_their_own():
    barrier = threading.Barrier(2)
    alone = {seed: ppl.importance_sampling(gum, GUM_DATA, 3000, seed=seed, progress=False) for seed in (1, 2)}
    together = {}

    def work(seed):
        barrier.wait()
        together[seed] = ppl.importance_sampling(gum, GUM_DATA, 3000, seed=seed, progress=False)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in (1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for seed in (1, 2):
        assert np.array_equal(together[seed].log_weights, alone[seed].log_weights)


def test_an_engine_inside_a_model_does_not_leak_into_it():
    def outer():
        inner = ppl.importance_sampling(gum, GUM_DATA, 20, seed=1, progress=False)
        return ppl.sample(dist.Normal(inner.map("mu").mean, 1.0), name="x")

    trace = ppl.prior(outer, 1, seed=0, progress=False)[0]
    assert [site.name for site in trace.sites] == ["x"]


def test_numpyros_distributions_become_ours():
    import numpyro.distributions as npd

    def model():
        x = ppl.sample(npd.Normal(0.0, 1.0), name="x")
        ppl.observe(npd.Poisson(2.0), 3, name="k")
        return x

    trace = ppl.prior(model, 1, seed=1, progress=False)[0]
    assert trace.sites[0].distribution == dist.Normal(0.0, 1.0)
    assert trace.sites[1].distribution == dist.Poisson(2.0)


def test_what_is_no_distribution_is_refused():
    with pytest.raises(TypeError, match=r"sample\(distribution, name='mu'\)"):
        ppl.sample("mu", dist.Normal(0.0, 1.0))
    with pytest.raises(TypeError, match="observe: the first argument must be a distribution"):
        ppl.observe(3.0, name="y")
    with pytest.raises(ppl.ModelError, match=r"TypeError: sample: .*test_primitives.py, line"):
        ppl.prior(lambda: ppl.sample("mu", dist.Normal(0.0, 1.0)), 1, progress=False)
