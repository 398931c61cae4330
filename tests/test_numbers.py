"""What may stand for a number, as a datum, a parameter or a fixed value; what may not is told in plain words."""

import datetime
import decimal
import fractions
import math

import jax.numpy as jnp
import numpy as np
import pytest

import ppl_jax as ppl
import ppl_jax.distributions as dist
from ppl_jax.distributions.numbers import as_numbers

QUIET = {"progress": False}


def cells():
    energy = ppl.sample(dist.Normal(0.0, 1.0), name="energy")
    for cell in ("cell0", "cell1"):
        ppl.observe(dist.Normal(energy, 1.0), name=cell)


BAD = {
    "text": ("0.1", "is text"),
    "bytes": (b"1", "is text"),
    "list of texts": (["1", "2"], "is text"),
    "array of texts": (np.array(["1"]), "is text"),
    "none": (None, "is None"),
    "complex": (1j, "is complex"),
    "array of complex": (np.array([1.0, 1j]), "is complex"),
    "too large": (10**400, "beyond the range of float64"),
    "list too large": ([1.0, 10**400], "beyond the range of float64"),
    "time": (np.datetime64("2026-01-01"), "is a time"),
    "duration": (np.array([1, 2], "m8[s]"), "is a time"),
    "datetime": (datetime.datetime(2026, 1, 1), "is not a number"),
    "ragged": ([1, [2, 3]], "different shapes"),
    "hole": (np.array([1.0, None]), "None, which is not a number"),
    "mixed": ([1.0, "2"], "text"),
    "function": (math.sin, "not a number"),
}


@pytest.mark.parametrize(("value", "words"), BAD.values(), ids=BAD)
def test_what_is_no_number_is_refused_everywhere(value, words):
    with pytest.raises((TypeError, OverflowError), match=words):
        as_numbers(value)
    with pytest.raises(ppl.ParameterError, match=f"Normal: parameter 'loc'.*{words}") as refused:
        dist.Normal(value, 1.0)
    assert isinstance(refused.value, TypeError)
    with pytest.raises(ppl.ParameterError, match=f"{words}.*test_numbers.py, line .*before the first site"):
        ppl.prior(lambda: ppl.sample(dist.Normal(value, 1.0)), 5, seed=0, **QUIET)
    with pytest.raises(ValueError, match=rf"observations\['cell0'\] must be a number.*{words}"):
        ppl.importance_sampling(cells, {"cell0": value, "cell1": 0.0}, 10, seed=0, **QUIET)
    if value is None:
        return  # in the model it means that the engine supplies the value
    with pytest.raises(ppl.ObservationError, match=f"observe site 'y'.*{words}"):
        ppl.importance_sampling(lambda: ppl.observe(dist.Normal(0.0, 1.0), value, name="y"), {}, 10, seed=0, **QUIET)
    with pytest.raises(ppl.ObservationError, match=f"sample site 'energy'.*{words}"):
        ppl.prior(ppl.handlers.substitute(cells, data={"energy": value}), 10, seed=0, **QUIET)


GOOD = [
    1, True, 2.5, np.float32(2.5), np.int8(100), np.bool_(True), fractions.Fraction(1, 4), decimal.Decimal("0.5"),
    jnp.float32(1.5),
]  # fmt: skip


@pytest.mark.parametrize("value", GOOD, ids=lambda value: type(value).__name__)
def test_what_is_a_number_passes(value):
    assert as_numbers(value) == float(value)
    assert dist.Normal(value, 1.0).loc == float(value)
    posterior = ppl.importance_sampling(cells, {"cell0": value, "cell1": 0.0}, 5, seed=0, **QUIET)
    assert posterior.map("cell0").values.tolist() == [float(value)] * 5


def test_arrays_of_small_integers_do_not_wrap():
    assert dist.Beta(np.int8(100), np.int8(100)).log_prob(0.5) == pytest.approx(dist.Beta(100.0, 100.0).log_prob(0.5))
    assert np.array_equal(dist.Normal(np.array([100, -100], np.int8), 1.0).loc, [100.0, -100.0])
    mixed = np.array([1, fractions.Fraction(1, 2)], dtype=object)
    assert np.array_equal(dist.Normal(mixed, 1.0).loc, [1.0, 0.5])


def test_a_misspelt_name_is_named():
    with pytest.raises(ppl.ObservationError, match=r"'cell0'.*no value.*Of the data, 'cel0', 'cell1' were not asked"):
        ppl.importance_sampling(cells, {"cel0": 1.0, "cell1": 2.0}, 10, seed=0, **QUIET)
    with pytest.raises(ppl.ObservationError, match=r"'cell0'.*Of the data, 'cell1', 'hit' were not asked.*meant"):
        ppl.metropolis_hastings(cells, {"hit": 1.0, "cell1": 2.0}, 10, seed=0, **QUIET)
    with pytest.raises(ppl.ObservationError, match=r"Give one: observations=\{'cell0': ...\}\.$"):
        ppl.smc(cells, {}, 10, seed=0, **QUIET)


def test_a_simulator_that_fails_for_a_part_of_its_prior_is_told_what_to_do():
    def failing():
        energy = ppl.sample(dist.Normal(0.0, 1.0), name="energy")
        ppl.observe(dist.Normal(math.sqrt(energy) if energy > 0.0 else math.nan, 1.0), name="y")

    def ruled_out():
        energy = ppl.sample(dist.Normal(0.0, 1.0), name="energy")
        if energy <= 0.0:
            ppl.factor(-math.inf)
            return
        ppl.observe(dist.Normal(math.sqrt(energy), 1.0), name="y")

    with pytest.raises(ppl.ParameterError, match=r"must be finite, got nan.*factor\(-math.inf\), and return"):
        ppl.importance_sampling(failing, {"y": 1.0}, 100, seed=0, **QUIET)
    assert ppl.importance_sampling(ruled_out, {"y": 1.0}, 1000, seed=0, **QUIET).map("energy").mean > 0.0
    with pytest.raises(ppl.ObservationError, match=r"2 elements of the value are NaN.*factor\(-math.inf\)"):
        ppl.prior(lambda: ppl.observe(dist.Normal(np.zeros(3), 1.0), [math.nan, 1.0, math.nan]), 5, seed=0, **QUIET)
