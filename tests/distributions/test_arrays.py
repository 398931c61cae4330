"""Arrays of independent values: the bits of one draw after the other, compiled or not, from whatever source."""

import numpy as np
import pytest

import ppl_jax.distributions as dist
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
