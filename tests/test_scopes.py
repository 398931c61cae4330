"""Rejection scopes of local models: what stays in a trace, what goes with a pass, and what cannot be in a scope."""

import math
from contextlib import ExitStack

import numpy as np
import numpyro
import pytest
from programs import GUM_DATA, GUM_LOG_EVIDENCE, GUM_MEAN, GUM_STDDEV, left_by_an_exception

import ppl_jax as ppl
import ppl_jax.distributions as dist
import ppx
from ppl_jax import handlers
from ppl_jax.running.execution import Execution, execute
from ppl_jax.streams import Stream

UNIFORM = dist.Uniform(-1.0, 1.0)


def marsaglia(mean, stddev, scope):
    while True:
        x = ppl.sample(UNIFORM, name="x", address="x")
        y = ppl.sample(UNIFORM, name="y", address="y")
        s = x * x + y * y
        if 0.0 < s < 1.0:
            return mean + stddev * x * math.sqrt(-2.0 * math.log(s) / s)
        if scope is not None:
            scope.reject()


def observed(mu):
    ppl.observe(dist.Normal(mu, math.sqrt(2.0)), name="obs0")
    ppl.observe(dist.Normal(mu, math.sqrt(2.0)), name="obs1")
    return mu


def scoped():
    """GUM-M with its loop in a scope."""
    with ppl.rejection_scope("polar") as scope:
        mu = marsaglia(1.0, math.sqrt(5.0), scope)
    return observed(mu)


def unscoped():
    return observed(marsaglia(1.0, math.sqrt(5.0), None))


def nested():
    """A draw before, a loop in a loop, a draw at the inner loop's address behind both."""
    ppl.sample(dist.Uniform(0.0, 1.0), name="first")
    with ppl.rejection_scope("outer", "outer") as outer:
        while True:
            x = ppl.sample(UNIFORM, name="x")
            with ppl.rejection_scope("inner", "inner") as inner:
                while (y := ppl.sample(dist.Normal(x, 1.0), name="y", address="y")) < 0.0:
                    inner.reject()
            if x + y > 0.5:
                break
            outer.reject()
    ppl.sample(dist.Normal(0.0, 1.0), name="last", address="y")
    return x + y


def run(model, index=0, seed=1, **settings):
    return execute(Execution(Stream(seed, index), **settings), model)


# -- what a trace keeps ------------------------------------------------------------------------------------------------


def test_a_trace_keeps_the_accepted_pass_and_knows_how_many_were_rejected():
    rejections = 0
    for index in range(50):
        trace, whole = run(scoped, index), run(unscoped, index)
        assert [(site.name, site.instance) for site in trace.sites] == [
            ("x", 1), ("y", 1), ("obs0", 1), ("obs1", 1)
        ]  # fmt: skip
        assert [site.value for site in trace.sites] == [site.value for site in whole.sites[-4:]]
        (scope,) = trace.scopes
        assert (scope.key[1], scope.first, scope.last) == ("polar", 0, 2)
        assert scope.rejected == (len(whole.sites) - 4) // 2
        rejections += scope.rejected
    assert rejections > 5


def test_instances_behind_a_loop_count_its_accepted_pass_only():
    rejected = set()
    for index in range(50):
        trace = run(nested, index)
        assert [(site.name, site.instance) for site in trace.sites] == [
            ("first", 1), ("x", 1), ("y", 1), ("last", 2)
        ]  # fmt: skip
        outer, inner = trace.scopes
        assert (outer.key, outer.first, outer.last) == (("outer", "outer"), 1, 3)
        assert (inner.key, inner.first, inner.last) == (("inner", "inner"), 2, 3)
        assert trace.sites[2].value >= 0.0
        assert trace.result > 0.5
        rejected |= {("outer", outer.rejected > 0), ("inner", inner.rejected > 0)}
    assert len(rejected) == 4


def test_the_prior_and_its_importance_weights_are_as_without_a_scope():
    with_scope, without = (
        ppl.importance_sampling(model, GUM_DATA, 4000, seed=3, progress=False) for model in (scoped, unscoped)
    )
    np.testing.assert_array_equal(with_scope.log_weights, without.log_weights)
    assert [trace.result for trace in with_scope] == [trace.result for trace in without]
    mu = with_scope.map(lambda trace: trace.result)
    size = with_scope.effective_sample_size
    assert abs(mu.mean - GUM_MEAN) < 4.0 * GUM_STDDEV / math.sqrt(size)
    assert abs(with_scope.log_evidence - GUM_LOG_EVIDENCE) < 4.0 * math.sqrt(1.0 / size - 1.0 / 4000)


def test_workers_and_disk_change_nothing(tmp_path):
    alone = ppl.prior(nested, 3000, seed=4, progress=False)
    shared = ppl.prior(nested, 3000, seed=4, num_workers=2, path=tmp_path / "traces", progress=False)
    assert [[site.value for site in trace.sites] for trace in alone] == [
        [site.value for site in trace.sites] for trace in shared
    ]
    assert {trace.type for trace in alone} == {alone[0].type}


def test_an_outer_rejection_takes_open_inner_scopes_with_it():
    def model():
        with ppl.rejection_scope("outer") as outer:
            for attempt in range(3):
                with ppl.rejection_scope(f"inner{attempt}"):
                    ppl.sample(dist.Normal(0.0, 1.0), name=f"x{attempt}")
                    if attempt < 2:
                        outer.reject()
        ppl.sample(dist.Normal(0.0, 1.0), name="behind")

    trace = run(model)
    assert [site.name for site in trace.sites] == ["x2", "behind"]
    assert [(scope.key[1], scope.first, scope.last, scope.rejected) for scope in trace.scopes] == [
        ("outer", 0, 1, 2), ("inner2", 0, 1, 0)
    ]  # fmt: skip


def test_a_scope_that_an_exception_leaves_is_closed():
    trace = run(left_by_an_exception, score=True)
    assert [site.name for site in trace.sites] == ["x2", "y"]
    assert [scope.key[1] for scope in trace.scopes] == ["outer", "inner"]


def test_an_address_is_that_of_the_with_statement():
    def model():
        with ppl.rejection_scope():
            ppl.sample(UNIFORM)
        with ExitStack() as stack:
            stack.enter_context(ppl.rejection_scope())
            ppl.sample(UNIFORM)
        for _ in range(2):
            with ppl.rejection_scope(address="mine"):
                pass

    first, second, *others = (scope.key[0] for scope in run(model).scopes)
    here = "test_scopes:test_an_address_is_that_of_the_with_statement.<locals>.model:"
    assert (first, second, others) == (f"{here}1:8", f"{here}4:12", ["mine", "mine"])


def test_control_makes_all_draws_nuisances():
    def model():
        with ppl.rejection_scope(control=False) as scope:
            while ppl.sample(UNIFORM, name="x") < 0.0:
                scope.reject()
        ppl.sample(UNIFORM, name="y")

    for index in range(5):
        trace = run(model, index)
        assert [(site.name, site.control) for site in trace.sites] == [("x", False), ("y", True)]
        assert trace["x"] == run(lambda: model(), index)["x"]


# -- handlers ----------------------------------------------------------------------------------------------------------


def test_traces_of_handlers_keep_the_accepted_pass():
    for index in range(20):
        recorded = handlers.trace(handlers.seed(nested, seed=1, index=index)).get_trace()
        engine = run(nested, index)
        assert [(s.address, s.instance, s.value) for s in recorded.sites] == [
            (s.address, s.instance, s.value) for s in engine.sites
        ]


def test_a_replay_ends_with_the_first_rejection():
    """The replayed pass is not accepted: the loop goes on with draws, and comes to an end."""
    trace = run(nested)
    trace.sites[2].value = -1.0
    again = run(handlers.replay(nested, trace=trace), seed=2)
    assert again["first"] == trace["first"]
    assert again["y", 1] >= 0.0
    assert again["last"] == trace["last"]


def test_nothing_is_proposed_in_a_scope_by_a_handler():
    posterior = ppl.importance_sampling(
        scoped, GUM_DATA, 50, proposal=lambda site: dist.Uniform(-1.0, 1.0), seed=1, progress=False
    )
    assert all(site.proposal is None for trace in posterior for site in trace.sites)


def test_without_handlers_a_scope_does_nothing():
    assert math.isfinite(scoped())
    assert nested() > 0.5
    with ppl.rejection_scope() as scope:
        scope.reject()


# -- other engines -----------------------------------------------------------------------------------------------------


def test_sequential_monte_carlo():
    runs = [ppl.smc(scoped, GUM_DATA, 300, seed=seed, progress=False) for seed in range(4)]
    means = [run.map(lambda trace: trace.result).mean for run in runs]
    sizes = sum(run.effective_sample_size for run in runs)
    assert abs(np.mean(means) - GUM_MEAN) < 4.0 * GUM_STDDEV / math.sqrt(sizes)
    assert {len(trace.sites) for trace in runs[0]} == {4}


def test_jax_cannot_trace_a_scope_and_the_host_takes_over():
    def model():
        x = ppl.sample(dist.Normal(0.0, 1.0), name="x")
        with ppl.rejection_scope("loop", "here"):
            pass
        ppl.observe(dist.Normal(x, 1.0), name="y")

    with pytest.raises(ppl.UntraceableModelError, match="the rejection scope 'loop' at here has a random number"):
        ppl.importance_sampling(model, {"y": 1.0}, 10, backend="jax", progress=False)
    automatic = ppl.importance_sampling(model, {"y": 1.0}, 10_000, seed=5, progress=False)
    host = ppl.importance_sampling(model, {"y": 1.0}, 10_000, seed=5, backend="host", progress=False)
    np.testing.assert_array_equal(automatic.log_weights, host.log_weights)
    with pytest.raises(ppl.UntraceableModelError, match="rejection scope 'loop'"):
        ppl.nuts(model, {"y": 1.0}, 10, progress=False)


def test_under_numpyro_every_pass_counts():
    def model():
        with ppl.rejection_scope("loop") as scope:
            while ppl.sample(dist.Normal(0.0, 1.0), name="x") < 0.0:
                scope.reject()
        return ppl.sample(dist.Normal(0.0, 1.0), name="y")

    lengths = set()
    for key in range(8):
        trace = numpyro.handlers.trace(numpyro.handlers.seed(model, key)).get_trace()
        values = [float(site["value"]) for name, site in trace.items() if name.startswith("x")]
        assert all(value < 0.0 for value in values[:-1])
        assert values[-1] >= 0.0
        lengths.add(len(values))
    assert max(lengths) > 1


def test_a_numpyro_model_with_a_scope():
    def model():
        with ppl.rejection_scope("loop") as scope:
            while numpyro.sample("x", numpyro.distributions.Normal(0.0, 1.0)) < 0.0:
                scope.reject()
        return numpyro.sample("y", numpyro.distributions.Normal(0.0, 1.0), obs=0.5)

    for trace in ppl.prior(model, 20, seed=1, backend="host", progress=False):
        assert [(site.name, site.instance) for site in trace.sites] == [("x", 1), ("y", 1)]
        assert trace["x"] >= 0.0


# -- bad use -----------------------------------------------------------------------------------------------------------


def observes():
    ppl.observe(dist.Normal(0.0, 1.0), 0.3, name="there")


def factors():
    ppl.factor(-1.0, name="there")


def draws():
    ppl.sample(dist.Normal(0.0, 1.0), name="there")


@pytest.mark.parametrize(
    ("statement", "data", "what"),
    [(observes, {}, "is observed"), (factors, {}, "weighs"), (draws, {"there": 0.3}, "is observed")],
)
@pytest.mark.parametrize("engine", [ppl.prior, ppl.importance_sampling, ppl.metropolis_hastings, ppl.smc])
def test_nothing_is_observed_or_weighed_in_a_scope(statement, data, what, engine):
    def model():
        ppl.sample(dist.Normal(0.0, 1.0), name="x")
        with ppl.rejection_scope("loop", "here"):
            statement()

    message = rf"'there' at .*it {what}.* within the rejection scope 'loop' at here"
    with pytest.raises(ppl.ObservationError, match=message):
        engine(model, observations=data, progress=False)


def test_behind_a_scope_observing_is_allowed_again():
    def model():
        for _ in range(2):
            with ppl.rejection_scope("outer"), ppl.rejection_scope("inner"):
                ppl.sample(dist.Normal(0.0, 1.0))
            ppl.factor(-1.0)

    assert run(model, score=True).log_importance_weight == -2.0


@pytest.mark.parametrize("handled", [True, False])
def test_a_scope_is_used_within_its_with_statement(handled):
    def late():
        with ppl.rejection_scope("loop", "here") as scope:
            pass
        scope.reject()

    def early():
        ppl.rejection_scope("loop").reject()

    def twice():
        scope = ppl.rejection_scope("loop", "here")
        with scope, scope:
            pass

    def gone():
        with ppl.rejection_scope("outer", "there") as outer, ppl.rejection_scope("loop", "here") as inner:
            outer.reject()
            inner.reject()

    for model, message in (
        (late, "'loop' at here was called after its with statement"),
        (early, "'loop' at .* was called before its with statement"),
        (twice, "'loop' at here was entered twice"),
        (gone, "'loop' at here was called after its with statement"),
    ):
        with pytest.raises(ppl.ScopeError, match=message):
            run(model) if handled else model()


def test_there_is_one_way_to_write_a_scope():
    assert ppx.rejection_scope is ppl.rejection_scope
