"""Arrays of independent values: the bits of one draw after the other, and no text that nobody reads."""

import numpy as np
import pytest

import ppl_jax.distributions as dist
from ppl_jax.distributions.base import Elementwise
from ppl_jax.streams import CountedStream, Stream

RNG = np.random.default_rng(0)
SIZE = 601
PARAMETERS = {
    dist.Normal: (RNG.normal(size=SIZE), RNG.uniform(0.1, 3, SIZE)),
    dist.Uniform: (RNG.normal(size=SIZE), 2.0 + RNG.uniform(0, 3, SIZE) * 10.0 ** RNG.integers(0, 9, SIZE) + 5.0),
    dist.Bernoulli: (RNG.uniform(size=SIZE),),
    dist.Exponential: (10.0 ** RNG.uniform(-300, 300, SIZE),),
    dist.HalfNormal: (10.0 ** RNG.uniform(-300, 308, SIZE),),
    dist.Laplace: (RNG.normal(size=SIZE), RNG.uniform(0.1, 3, SIZE)),
    dist.Logistic: (RNG.normal(size=SIZE), RNG.uniform(0.1, 3, SIZE)),
    dist.Gumbel: (RNG.normal(size=SIZE), RNG.uniform(0.1, 3, SIZE)),
}


def test_the_table_is_complete():
    known = [getattr(dist, name) for name in dist.__all__]
    fast = {family for family in known if issubclass(family, Elementwise) and family._draws is not None}
    assert set(PARAMETERS) == fast


@pytest.mark.parametrize("family", PARAMETERS, ids=lambda family: family.__name__)
def test_an_array_is_drawn_as_its_elements_are(family):
    for repeat in range(20):
        one, other, counted = Stream(7, repeat), Stream(7, repeat), CountedStream(7, repeat)
        if repeat % 2:
            assert one.random() == other.random() == counted.random()  # an odd place in the stream
        array = family(*PARAMETERS[family])
        elements = [family(*element).sample(other) for element in zip(*PARAMETERS[family], strict=True)]
        drawn = array.sample(one)
        assert drawn.dtype == (np.int64 if family.discrete else np.float64)
        assert drawn.tolist() == elements == array.sample(counted).tolist()
        assert one.random() == other.random() == counted.random()  # all stand at the same place


@pytest.mark.parametrize("family", PARAMETERS, ids=lambda family: family.__name__)
def test_other_sources_and_shapes(family):
    class Plain:
        def __init__(self):
            self.random = Stream(3).random

    matrix = family(*(parameter[:600].reshape(20, 30) for parameter in PARAMETERS[family]))
    flat = family(*(parameter[:600] for parameter in PARAMETERS[family]))
    assert np.array_equal(matrix.sample(Plain()), flat.sample(Stream(3)).reshape(20, 30))
    assert family(*(np.empty(0) for _ in PARAMETERS[family])).sample(Stream(0)).shape == (0,)


@pytest.mark.parametrize("kind", [Stream, CountedStream])
def test_blocks_of_uniforms_are_the_stream(kind):
    rng = np.random.default_rng(1)
    expected = Stream(5, 9)
    mixed = kind(5, 9)
    for _ in range(300):
        count = int(rng.choice([0, 1, 2, 3, 15, 16, 17, 100, 5000], p=[0.1, 0.2, 0.2, 0.1, 0.1, 0.1, 0.1, 0.09, 0.01]))
        assert mixed.block(count).tolist() == [expected.random() for _ in range(count)]
        for _ in range(int(rng.integers(0, 5))):
            assert mixed.random() == expected.random()
    again = Stream(5, 9)
    assert kind(5, 9).block(7).tolist() == [again.random() for _ in range(7)]


class Told(Exception):
    pass


def test_no_text_is_made_of_parameters_that_are_right():
    def tell(*arguments, **options):
        raise Told

    low, high = np.zeros(600), np.ones(600)
    with np.printoptions(formatter={"all": tell}):
        for distribution in (
            dist.Uniform(low, high), dist.TruncatedNormal(low, high, -high, high), dist.Normal(low, high),
            dist.Binomial(high, 0.5 * high), dist.Beta(high, high), dist.Gamma(high, high), dist.Poisson(high),
            dist.MultivariateNormal(np.zeros(3), np.eye(3)), dist.Categorical(np.ones((600, 3))),
        ):  # fmt: skip
            distribution.log_prob(distribution.sample(Stream(0)))
        with pytest.raises(Told):  # the check can fail
            dist.Uniform(high, low)
