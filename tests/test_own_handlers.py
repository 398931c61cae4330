"""Handlers that users write: after the documented base or with its methods alone, under every engine."""

import doctest
import sys
from pathlib import Path

import numpy as np
import pytest
from programs import GUM_DATA, gum

import ppl_jax as ppl
import ppl_jax.distributions as dist
from ppl_jax.handlers import Handler, Messenger
from ppl_jax.language import stack

QUIET = {"progress": False}
REMOTE = Path(__file__).parent / "remote"


class ShiftMessenger(Messenger):
    """Fixes nothing; widens every prior a little, so that it is seen that it was there."""

    def process(self, site):
        if site.kind == "sample":
            site.distribution = dist.Normal(site.distribution.loc, 2.0)


class WithMethodsAlone:
    """The two methods that a messenger cannot do without, and no base."""

    def process(self, site):
        if site.kind == "sample":
            site.distribution = dist.Normal(site.distribution.loc, 2.0)

    def postprocess(self, site):
        pass


class WithOneMethod:
    def process(self, site):
        if site.kind == "sample":
            site.distribution = dist.Normal(site.distribution.loc, 2.0)


def handler(kind):
    class widened(Handler):  # noqa: N801
        def messenger(self):
            return kind()

    return widened()


KINDS = {"base": ShiftMessenger, "two methods": WithMethodsAlone, "one method": WithOneMethod}
ENGINES = {
    "prior": lambda: ppl.prior(gum, 200, seed=1, **QUIET),
    "workers": lambda: ppl.prior(gum, 600, seed=1, num_workers=2, **QUIET),
    "jax": lambda: ppl.prior(gum, 200, seed=1, backend="jax", **QUIET),
    "importance sampling": lambda: ppl.importance_sampling(gum, GUM_DATA, 200, seed=1, **QUIET),
    "lightweight": lambda: ppl.metropolis_hastings(
        gum, GUM_DATA, 200, kernel="lightweight", burn_in=10, seed=1, **QUIET
    ),
    "random walk": lambda: ppl.metropolis_hastings(gum, GUM_DATA, 200, burn_in=10, seed=1, **QUIET),
    "smc": lambda: ppl.smc(gum, GUM_DATA, 100, seed=1, **QUIET),
    "nuts": lambda: ppl.nuts(gum, GUM_DATA, 50, burn_in=50, seed=1, **QUIET),
}


@pytest.mark.parametrize("engine", ENGINES.values(), ids=ENGINES)
@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_under_every_engine(engine, kind):
    with handler(kind):
        within = engine()
    assert {trace.sites[0].distribution.scale for trace in within.values[:20]} == {2.0}


@pytest.fixture(scope="module")
def network():
    return ppl.train(gum, num_traces=256, core="feedforward", batch_size=64, seed=0, **QUIET)


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_under_a_network(network, kind):
    with handler(kind):
        guided = ppl.importance_sampling(gum, GUM_DATA, 50, proposal=network, seed=1, **QUIET)
    assert {trace.sites[0].distribution.scale for trace in guided.values} == {2.0}


def test_over_a_remote_model():
    sys.path.insert(0, str(REMOTE))
    command = [sys.executable, "-c", "import sys; sys.path[:0] = [sys.argv[2], sys.argv[3]]; import programs, ppx;"
               "ppx.serve(programs.gum, sys.argv[1])", "{endpoint}", str(REMOTE), str(REMOTE.parent)]  # fmt: skip
    with ppl.RemoteModel(command=command) as simulator, handler(WithMethodsAlone):
        found = ppl.importance_sampling(simulator, GUM_DATA, 20, seed=1, **QUIET)
    assert {trace.sites[0].distribution.scale for trace in found.values} == {2.0}


def test_in_a_rejection_scope():
    class Counting(WithMethodsAlone):
        seen = 0

        def process(self, site):
            Counting.seen += 1

    def model():
        with ppl.rejection_scope() as scope:
            while (x := ppl.sample(dist.Normal(0.0, 1.0), name="x")) < 0.0:
                scope.reject()
        return x

    with handler(Counting):
        found = ppl.prior(model, 50, seed=1, **QUIET)
    assert Counting.seen > 75 and min(found.results.values) >= 0.0


def test_a_handler_that_raises_is_blamed_itself():
    class Wrong(Messenger):
        def process(self, site):
            self.nothing_of_this_name  # noqa: B018

    class WrongWithoutBase:
        def process(self, site):
            self.nothing_of_this_name  # noqa: B018

    for kind in (Wrong, WrongWithoutBase):
        with handler(kind), pytest.raises(ppl.ModelError, match=f"The handler {kind.__name__} raised AttributeError"):
            ppl.prior(gum, 10, seed=1, **QUIET)
    with pytest.raises(ppl.ModelError, match="The model raised ZeroDivisionError"):
        ppl.prior(lambda: 1 / 0, 10, seed=1, **QUIET)


def test_what_is_no_messenger_is_refused_where_it_is_used():
    with pytest.raises(TypeError, match=r"messenger\(\) gave .*no method process\(site\).*Messenger"), handler(object):
        pass


def test_draws_come_from_a_stream_of_ones_own():
    class Seeded:
        def __init__(self):
            self.rng = np.random.default_rng(0)

        def process(self, site):
            pass

    with handler(Seeded):
        first = ppl.sample(dist.Uniform(0.0, 1.0))
    assert first == np.random.default_rng(0).random()


def test_the_example_of_the_docstring_runs():
    finder, runner = doctest.DocTestFinder(), doctest.DocTestRunner()
    (example,) = [test for test in finder.find(stack.Messenger, globs={}) if test.examples]
    assert runner.run(example).failed == 0
