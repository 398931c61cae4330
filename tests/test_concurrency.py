"""Threads, greenlets and asyncio tasks: each has handlers of its own, and engines run side by side undisturbed."""

import asyncio
import threading
from contextvars import copy_context

import numpy as np
import pytest
from greenlet import getcurrent, greenlet
from programs import GUM_DATA, HMM_DATA, gum, gum_marsaglia, hidden_markov

import ppl_jax as ppl
import ppl_jax.distributions as dist
from ppl_jax import handlers

QUIET = {"progress": False}

ENGINES = {
    "prior": lambda seed: ppl.prior(gum_marsaglia, 1500, seed=seed, backend="host", **QUIET),
    "prior, jax": lambda seed: ppl.prior(gum, 500, seed=seed, backend="jax", **QUIET),
    "importance_sampling": lambda seed: ppl.importance_sampling(
        gum_marsaglia, GUM_DATA, 1500, seed=seed, backend="host", **QUIET
    ),
    "metropolis_hastings": lambda seed: ppl.metropolis_hastings(gum, GUM_DATA, 1500, burn_in=100, seed=seed, **QUIET),
    "smc": lambda seed: ppl.smc(hidden_markov, HMM_DATA, 60, seed=seed, **QUIET),
    "nuts": lambda seed: ppl.nuts(gum, GUM_DATA, 50, burn_in=50, seed=seed, **QUIET),
}


def side_by_side(work, arguments):
    """The outcomes of ``work(argument)`` in threads that begin together."""
    barrier, outcomes = threading.Barrier(len(arguments)), {}

    def run(argument):
        barrier.wait()
        try:
            outcomes[argument] = work(argument)
        except BaseException as error:
            outcomes[argument] = error

    threads = [threading.Thread(target=run, args=(argument,)) for argument in arguments]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [outcomes[argument] for argument in arguments]


def numbers_of(posterior):
    return [
        (site.address, site.instance, np.asarray(site.value).tolist())
        for trace in posterior
        for site in trace.sites
    ]  # fmt: skip


@pytest.mark.parametrize(
    "engine", [pytest.param(run, id=name, marks=[pytest.mark.slow] * (name == "nuts")) for name, run in ENGINES.items()]
)
def test_two_threads_infer_at_once(engine):
    alone = [engine(seed) for seed in (1, 2)]
    for expected, found in zip(alone, side_by_side(engine, (1, 2)), strict=True):
        assert not isinstance(found, BaseException), found
        assert np.array_equal(found.log_weights, expected.log_weights)
        assert numbers_of(found) == numbers_of(expected)


def test_different_engines_at_once():
    """A handler in force in one thread is not seen by another; nor is an error."""

    def work(name):
        if name == "error":
            return ppl.prior(lambda: 1 / 0, 10, **QUIET)
        with handlers.condition(data={"mu": float(len(name))}):
            return ppl.prior(gum, 1000, seed=1, backend="host", **QUIET)

    outcomes = side_by_side(work, ("a", "abc", "error"))
    assert set(outcomes[0].map("mu").values) == {1.0}
    assert set(outcomes[1].map("mu").values) == {3.0}
    assert isinstance(outcomes[2], ppl.ModelError)


def test_one_handler_serves_many_threads():
    """Handlers hold no state: the instances that one thread counts are not those of another."""

    def loop():
        return [ppl.sample(dist.Normal(0.0, 1.0), name="x") for _ in range(200)]

    start = handlers.trace(handlers.seed(loop, seed=3)).get_trace()
    shared = handlers.trace(handlers.replay(handlers.seed(loop, seed=9), trace=start))
    for trace in side_by_side(lambda _: shared.get_trace(), tuple(range(4))):
        assert trace.result == start.result
        assert [site.instance for site in trace.sites] == list(range(1, 201))


def test_greenlets_take_turns_with_handlers_of_their_own():
    def program(value):
        with handlers.seed(seed=value), handlers.condition(data={"y": value}), handlers.trace() as recorder:
            for _ in range(3):
                ppl.sample(dist.Normal(0.0, 1.0), name="x")
                getcurrent().parent.switch()
                ppl.observe(dist.Normal(0.0, 1.0), name="y")
        return recorder.trace

    running, traces = [greenlet(program) for _ in range(3)], []
    for one in running:
        one.gr_context = copy_context()
    for number, one in enumerate(running):
        one.switch(number)
    while running:
        for one in list(running):
            outcome = one.switch()
            if one.dead:
                traces.append(outcome)
                running.remove(one)
    for number, trace in enumerate(traces):
        assert [site.kind for site in trace.sites] == ["sample", "observe"] * 3
        assert trace["y"] == number
        with handlers.seed(seed=number):
            assert trace["x", 1] == ppl.sample(dist.Normal(0.0, 1.0))


def test_asyncio_tasks_have_handlers_of_their_own():
    async def program(value):
        with handlers.substitute(data={"x": value}), handlers.trace() as recorder:
            await asyncio.sleep(0)
            ppl.sample(dist.Normal(0.0, 1.0), name="x")
            await asyncio.sleep(0)
        return recorder.trace["x"]

    async def together():
        return await asyncio.gather(*(program(float(value)) for value in range(5)))

    assert asyncio.run(together()) == [0.0, 1.0, 2.0, 3.0, 4.0]


def test_an_engine_in_a_thread_inside_a_model():
    """A model may start threads: their draws are not its own."""

    def model():
        inside = side_by_side(lambda seed: handlers.seed(gum, seed=seed)(), (4,))
        return ppl.sample(dist.Normal(inside[0], 1.0), name="x")

    trace = ppl.prior(model, 1, seed=1, **QUIET)[0]
    assert [site.name for site in trace.sites] == ["x"]
    assert trace.sites[0].distribution.loc == handlers.seed(gum, seed=4)()
