"""Programs whose traces hold everything a table has to store."""

import numpy as np

import ppl_jax as ppl
import ppl_jax.distributions as dist
from ppl_jax.language.trace import Trace
from ppl_jax.running.execution import Execution, execute
from ppl_jax.streams import Stream

DATA = {"obs0": 8.0, "obs1": 9.0}


def gum():
    mu = ppl.sample(dist.Normal(1.0, 5**0.5), name="mu")
    ppl.observe(dist.Normal(mu, 2**0.5), name="obs0")
    ppl.observe(dist.Normal(mu, 2**0.5), name="obs1")
    return mu


def everything():
    """Loops, arrays, discrete draws, mixtures, factors, tags of all sorts, and a structure that varies."""
    count = ppl.sample(dist.Poisson(2.0), name="count")
    for step in range(count):
        ppl.sample(dist.Normal(np.arange(3.0), 1.0), name="step")
        ppl.tag({"step": step, "label": f"step {step}"}, name="where")
    coins = ppl.sample(dist.Bernoulli(np.full((2, 2), 0.5)), name="coins")
    kind = ppl.sample(dist.Categorical([0.2, 0.8]), name="kind", control=False)
    x = ppl.sample(dist.Mixture([0.5, 0.5], [dist.Normal(-1.0, 0.1), dist.Normal(1.0, 0.1)]), name="x")
    ppl.sample(dist.MultivariateNormal(np.zeros(2), np.eye(2)))
    ppl.factor(-0.5 * x * x, name="pull")
    ppl.observe(dist.Normal(x, 1.0), name="y")
    ppl.tag(x * 2, name="twice")
    ppl.tag(coins.sum() > 1, name="many")
    return {"kind": kind, "x": (x, [None, "text", 2**70]), "coins": coins}


def trace_of(model, index=0, data=DATA) -> Trace:
    return execute(Execution(Stream(0, index), data, True), model)


def traces_of(model, count, data=DATA) -> list[Trace]:
    return [trace_of(model, index, data) for index in range(count)]


def assert_same_value(found, expected):
    """Equal, and of the same types throughout."""
    assert type(found) is type(expected)
    if isinstance(expected, np.ndarray):
        assert found.dtype == expected.dtype and found.shape == expected.shape
        np.testing.assert_array_equal(found, expected)
    elif isinstance(expected, dict):
        assert list(found) == list(expected)
        for key, value in expected.items():
            assert_same_value(found[key], value)
    elif isinstance(expected, (tuple, list)):
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            assert_same_value(one, other)
    else:
        assert found == expected or (found != found and expected != expected)


def assert_same_trace(found: Trace, expected: Trace):
    assert len(found) == len(expected)
    for one, other in zip(found.sites, expected.sites, strict=True):
        for field in ("kind", "address", "instance", "name", "control", "observed", "distribution", "proposal"):
            assert getattr(one, field) == getattr(other, field), field
        np.testing.assert_array_equal(one.value, other.value) if not isinstance(other.value, dict) else None
        assert one.log_prob == other.log_prob
    assert_same_value(found.result, expected.result)
    assert found.names == expected.names
    assert found.log_importance_weight == expected.log_importance_weight
    assert found.log_joint == expected.log_joint
    assert found.type == expected.type
