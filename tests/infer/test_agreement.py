"""Programs that JAX would freeze: "auto" stays on the host, "jax" and NUTS say so; randomness of its own is told."""

import itertools
import logging
import math
import random
import re
import warnings

import jax.numpy as jnp
import numpy as np
import pytest

import ppl_jax as ppl
import ppl_jax.distributions as dist

QUIET = {"progress": False}
COUNT = 10_000  # from here on "auto" tries JAX
RNG = np.random.default_rng(0)


def numpys():
    mu = ppl.sample(dist.Normal(0, 1), "mu")
    x = mu + 3 * RNG.normal()
    ppl.tag(x, "x")
    ppl.observe(dist.Normal(x, 1), name="y")


def pythons():
    ppl.tag(ppl.sample(dist.Normal(0, 1), "mu") + 3 * random.gauss(0, 1), "x")


def unseen_by_weights():
    """A tag that hangs on nothing that is weighed."""
    ppl.tag(math.sqrt(10.0) * RNG.normal(), "x")
    ppl.observe(dist.Normal(ppl.sample(dist.Normal(0, 1), "mu"), 1), name="y")


COUNTER = itertools.count()


def counting():
    ppl.tag(ppl.sample(dist.Normal(0, 1), "mu") + 3 * (1 if next(COUNTER) % 2 else -1), "x")


OWN = {"numpy": numpys, "random": pythons, "unseen by weights": unseen_by_weights, "counter": counting}


@pytest.mark.parametrize("model", OWN.values(), ids=OWN)
def test_randomness_of_a_programs_own_is_not_frozen_and_is_told(model):
    # The variance of x is 1 + 9, that is sd 3.162, of which 10,000 values know 0.7 % (0.022): four of these.
    with pytest.warns(RuntimeWarning, match="not reproducible.*'x'"):
        found = ppl.prior(model, COUNT, seed=1, **QUIET).map("x")
    assert found.stddev == pytest.approx(math.sqrt(10.0), abs=4 * 0.022)
    with pytest.warns(RuntimeWarning, match=r"not reproducible.*backend='host'"):
        ppl.prior(model, 100, seed=1, backend="jax", **QUIET)


def data_file(model, folder):
    return ppl.save_dataset(model, folder / "set", COUNT, seed=1, **QUIET)


ENGINES = {
    "importance sampling": lambda model, folder: ppl.importance_sampling(model, {"y": 1.0}, COUNT, seed=1, **QUIET),
    "short": lambda model, folder: ppl.importance_sampling(model, {"y": 1.0}, 100, seed=1, **QUIET),
    "chain": lambda model, folder: ppl.metropolis_hastings(model, {"y": 1.0}, 100, burn_in=10, seed=1, **QUIET),
    "smc": lambda model, folder: ppl.smc(model, {"y": 1.0}, 100, seed=1, **QUIET),
    "nuts": lambda model, folder: ppl.nuts(model, {"y": 1.0}, 100, burn_in=50, seed=1, **QUIET),
    "dataset": data_file,
}


@pytest.mark.parametrize("engine", ENGINES.values(), ids=ENGINES)
def test_every_engine_names_a_program_that_is_not_reproducible(engine, tmp_path):
    with pytest.warns(RuntimeWarning, match="not reproducible.*sample in its place"):
        engine(unseen_by_weights, tmp_path)


def test_a_dataset_holds_what_the_program_draws(tmp_path):
    with pytest.warns(RuntimeWarning, match="not reproducible"):
        column = [trace["x"] for trace in data_file(unseen_by_weights, tmp_path)]
    assert np.std(column) == pytest.approx(math.sqrt(10.0), abs=4 * 0.022)


def test_a_short_run_is_not_asked():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ppl.prior(numpys, 99, seed=1, **QUIET)


# -- the text of a draw ------------------------------------------------------------------------------------------------


def formatted():
    a = ppl.sample(dist.Normal(0, 1), "a")
    try:  # as an external program reads its command line
        read = float(f"{a}")
    except ValueError:
        read = 0.0
    ppl.tag(read, "read")


def told():
    a = ppl.sample(dist.Normal(0, 1), "a")
    ppl.tag(repr(a), "text")


def printed():
    a = ppl.sample(dist.Normal(0, 1), "a")
    print(a, end="")
    ppl.tag(a, "read")


def logged():
    """logging takes the error for its own."""
    a = ppl.sample(dist.Normal(0, 1), "a")
    logging.getLogger("ppl_jax.tests").critical("%s", a)
    ppl.tag(a, "read")


def looked_up():
    a = ppl.sample(dist.Bernoulli(0.5), "a")
    ppl.tag({"0": 1.0, "1": 2.0}[str(a)], "read")


TEXTS = {"format": formatted, "repr": told, "print": printed, "logging": logged, "key": looked_up}


@pytest.mark.parametrize("model", TEXTS.values(), ids=TEXTS)
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_the_text_of_a_draw_ends_the_tracing(model, capsys, caplog, monkeypatch):
    monkeypatch.setattr(logging, "raiseExceptions", False)
    name = model.__name__
    with pytest.raises(ppl.UntraceableModelError, match=rf"text of a random value.*in line \d+ of {name}"):
        ppl.prior(model, 100, seed=1, backend="jax", **QUIET)
    chosen, host = (ppl.prior(model, COUNT, seed=1, backend=backend, **QUIET) for backend in ("auto", "host"))
    key = "text" if model is told else "read"
    assert list(chosen.map(key).values[:50]) == list(host.map(key).values[:50])


def test_text_of_abstract_values_is_as_ever_afterwards_and_in_messages_of_jax():
    import jax

    texts = []
    jax.make_jaxpr(lambda x: texts.append(f"{x} {x!s} {x!r}") or x)(1.0)
    assert re.fullmatch(r"(JitTracer\S+ ?){3}", texts[0])

    def parameter():
        ppl.sample(dist.Normal(ppl.sample(dist.Normal(0, 1)), jnp.ones((2, 3))).shape)

    with pytest.raises(ppl.UntraceableModelError, match="must be a distribution"):
        ppl.prior(parameter, 10, seed=1, backend="jax", **QUIET)


# -- what JAX sees otherwise -------------------------------------------------------------------------------------------


def by_type():
    a = ppl.sample(dist.Normal(0, 1), "a")
    ppl.tag(a if isinstance(a, float) else 0.0, "read")


def by_result():
    a = ppl.sample(dist.Normal(0, 1), "a")
    return [a if isinstance(a, float) else 0.0]


def by_statement():
    a = ppl.sample(dist.Normal(0, 1), "a")
    ppl.sample(dist.Normal(0, 1), "b" if isinstance(a, float) else "c")


@pytest.mark.parametrize("model", [by_type, by_result, by_statement])
def test_what_the_host_does_otherwise_is_left_to_it(model):
    chosen, host = (ppl.prior(model, COUNT, seed=1, backend=backend, **QUIET) for backend in ("auto", "host"))
    assert repr(chosen[0]) == repr(host[0])
    with pytest.warns(RuntimeWarning, match=r"does not compute what the model computes.*backend='host'"):
        ppl.prior(model, 100, seed=1, backend="jax", **QUIET)


def test_auto_says_that_a_model_for_jax_alone_could_not_be_compared():
    def indexed():
        a = ppl.sample(dist.Normal(0, 1), "a")
        ppl.tag(jnp.zeros(2).at[0].set(a) + a.astype(float), "b")

    with pytest.warns(RuntimeWarning, match="unchecked.*astype"):
        assert len(ppl.prior(indexed, COUNT, seed=1, **QUIET)) == COUNT


def test_ordinary_programs_run_on_jax_without_a_word(recwarn):
    def ordinary():
        a, b = ppl.sample(dist.Normal(0, 1), "a"), ppl.sample(dist.Gamma(2.0, 1.0), "b")
        k = ppl.sample(dist.Poisson(3.0), "k")
        ppl.tag({"product": a * b, "kind": "text"}, "x")
        ppl.observe(dist.Normal(a, b), name="y")
        return [a, b, k + 1]

    chosen, device = (ppl.prior(ordinary, COUNT, seed=1, backend=backend, **QUIET) for backend in ("auto", "jax"))
    assert np.array_equal(chosen.map("a").values, device.map("a").values)
    assert not [str(warning.message) for warning in recwarn if warning.category is RuntimeWarning]


# -- what a comparison of a few executions does not show ---------------------------------------------------------------


class Simulator:
    """Draws rarely, from a generator that it keeps as an attribute."""

    def __init__(self):
        self.rng = np.random.default_rng(0)

    def __call__(self):
        mu = ppl.sample(dist.Normal(0, 1), "mu")
        ppl.tag(mu + (100.0 if self.rng.random() < 0.01 else 0.0), "x")


def rarely():
    ppl.tag(ppl.sample(dist.Normal(0, 1), "mu") + (100.0 if random.random() < 0.01 else 0.0), "x")


@pytest.mark.parametrize("model", [rarely, Simulator()], ids=["module", "attribute"])
def test_a_generator_that_goes_on_is_told_whatever_comes_of_it(model):
    random.seed(0)
    with pytest.warns(RuntimeWarning, match=r"not reproducible: it draws from (Python's module|the generator 'rng')"):
        found = ppl.prior(model, COUNT, seed=1, **QUIET).map("x")
    # Of x the mean is 1, the variance 1 + 0.01 * 0.99 * 1e4 = 100: four standard errors of the mean of 10,000.
    assert found.mean == pytest.approx(1.0, abs=4 * 10.0 / math.sqrt(COUNT))
    with pytest.warns(RuntimeWarning, match="it draws from"):
        ppl.prior(model, 100, seed=1, backend="jax", **QUIET)


def test_a_generator_that_is_seeded_from_a_draw_is_reproducible():
    def seeded():
        k = ppl.sample(dist.Categorical(np.full(1000, 1e-3)), "k")
        np.random.seed(int(k))  # noqa: NPY002 (as programs do)
        ppl.tag(np.random.normal(), "x")  # noqa: NPY002

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ppl.prior(seeded, 200, seed=1, **QUIET)


def test_numbers_that_32_bits_do_not_hold_in_one_execution_of_a_hundred():
    def cubed():
        k = ppl.sample(dist.NegativeBinomial2(200.0, 0.5), "k")
        ppl.tag(k * k * k, "cube")

    run = ppl.prior(cubed, COUNT, seed=1, **QUIET)
    k, cube = (np.asarray(run.map(name).values, dtype=float) for name in ("k", "cube"))
    assert np.mean(k**3 > 2**31) > 0.002  # some do not fit
    assert np.array_equal(cube, k**3)


def test_an_overflow_in_the_tail_is_left_to_the_host():
    def growth():
        x = ppl.sample(dist.Normal(0.0, 25.0), "x")
        ppl.tag(2.718281828459045**x, "size")  # Python's floats end at 1e308, JAX's at 3e38

    assert np.all(np.isfinite(ppl.prior(growth, COUNT, seed=1, **QUIET).map("size").values))


def test_a_program_that_keeps_its_draws_is_told():
    kept = []

    def keeping():
        x = ppl.sample(dist.Normal(0, 1), "x")
        kept.append(2 * x)

    with pytest.warns(RuntimeWarning, match="keeps values that it draws"):
        ppl.prior(keeping, COUNT, seed=1, **QUIET)
    assert sum(isinstance(x, float) for x in kept) >= COUNT


def test_a_program_that_computes_with_earlier_draws_never_meets_jax():
    kept = []

    def drifting():
        kept.append(ppl.sample(dist.Normal(0, 1), "x"))
        ppl.tag(sum(kept[-2:]), "sum")

    with pytest.warns(RuntimeWarning, match="not reproducible.*'sum'"):
        found = ppl.prior(drifting, COUNT, seed=1, **QUIET).map("sum")
    # The sum of two has variance 2; neighbours share one, which makes its error larger by at most sqrt(2).
    assert found.stddev == pytest.approx(math.sqrt(2.0), abs=4 * math.sqrt(2.0) / math.sqrt(COUNT))
    assert all(isinstance(x, float) for x in kept)


@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_a_program_of_certain_values_has_no_extremes_to_compare():
    def certain():
        x = ppl.sample(dist.Delta(1.5), name="x")
        ppl.observe(dist.Normal(x, 1.0), 2.0, name="y")

    posterior = ppl.importance_sampling(certain, num_traces=10_000, seed=1, progress=False)
    assert posterior.map("x").mean == pytest.approx(1.5, abs=1e-11)
