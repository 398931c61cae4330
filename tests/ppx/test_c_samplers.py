"""The samplers of the C core draw the numbers of ppl_jax's, bit for bit, and take as many uniforms."""

import ctypes
import json
import math
import random
from pathlib import Path

import numpy as np
import pytest
from c_core import Distribution, Stream, check, distribution, draws, library

import ppl_jax.distributions as dist
from ppl_jax import streams
from ppl_jax.errors import ParameterError

TINY, HUGE = np.finfo(float).tiny, np.finfo(float).max
SETS = 300  # parameter sets for each family
DRAWS = 4


class Counted:
    """A stream that counts what is taken."""

    def __init__(self, seed: int, index: int):
        self._next = streams.Stream(seed, index).random
        self.position = 0

    def random(self) -> float:
        self.position += 1
        return self._next()


def bits(numbers) -> list[str]:
    return [float(number).hex() for number in np.ravel(list(numbers) if isinstance(numbers, map) else numbers)]


def assert_same(made: dist.Distribution, seed: int, index: int, count: int = DRAWS) -> None:
    twin = distribution(made.layout(), made.numbers())
    assert check(twin) == ""
    rng = Counted(seed, index)
    expected = [bits(made.sample(rng)) for _ in range(count)]
    found, position = draws(twin, seed, index, count)
    assert ([bits(value) for value in found], position) == (expected, rng.position), repr(made)


# -- random parameters ------------------------------------------------------------------------------------------------


def real(rng: random.Random) -> float:
    """Mostly ordinary, sometimes very small or very large."""
    scale = rng.choice([1.0, 1.0, 1.0, 10.0 ** rng.uniform(-5.0, 5.0), 10.0 ** rng.uniform(-300.0, 300.0), 0.0])
    return rng.gauss(0.0, 1.0) * scale


def positive(rng: random.Random) -> float:
    exponent = rng.uniform(*rng.choice([(-1.0, 1.0), (-1.0, 1.0), (-3.0, 5.0), (-307.0, 307.0)]))
    return rng.choice([10.0**exponent] * 9 + [1.0]) if rng.random() < 0.97 else rng.choice([TINY, HUGE, 5e-324])


def probability(rng: random.Random) -> float:
    near = [0.0, 1.0, 10.0 ** rng.uniform(-300.0, -1.0), 1.0 - 10.0 ** rng.uniform(-16.0, -1.0)]
    return rng.choice([rng.random()] * 6 + near)


def weights(rng: random.Random, count: int) -> list[float]:
    made = [rng.choice([rng.random(), rng.random(), 0.0, 10.0 ** rng.uniform(-300.0, 0.0)]) for _ in range(count)]
    return made if sum(made) > 0.0 else [1.0] * count


def count(rng: random.Random) -> float:
    return float(rng.choice([rng.randrange(below) for below in (30, 3000, 10**6, 2**53 + 1)] + [0, 2**53]))


def bounds(rng: random.Random) -> tuple[float, float]:
    low = rng.choice([rng.gauss(0.0, 1.0), rng.gauss(0.0, 12.0), rng.gauss(0.0, 1e6), -math.inf])
    high = rng.choice([low + rng.expovariate(1.0), low + 10.0 ** rng.uniform(-6.0, 3.0), math.inf])
    return (low, high) if low < high else (-math.inf, math.inf)


def uniform(rng: random.Random) -> dist.Distribution:
    low, high = sorted((real(rng), real(rng)))
    return dist.Uniform(low, high) if low < high else dist.Uniform(low, low + 1.0 + abs(low))


def mixture(rng: random.Random, depth: int = 1) -> dist.Distribution:
    discrete = rng.random() < 0.5
    if discrete:
        makers = [lambda: dist.Poisson(positive_rate(rng)), lambda: dist.Bernoulli(probability(rng))]
    else:
        makers = [lambda: dist.Normal(real(rng), positive(rng)), lambda: dist.Beta(positive(rng), positive(rng))]
    components = [rng.choice(makers)() for _ in range(rng.randrange(1, 5))]
    inner = dist.Mixture(weights(rng, len(components)), components)
    return inner if depth >= 8 or rng.random() < 0.5 else dist.Mixture([1.0], [mixture(rng, depth + 1)])


def positive_rate(rng: random.Random) -> float:
    ordinary = [rng.uniform(0.0, 10.0), rng.uniform(0.0, 100.0)]
    return rng.choice([*ordinary, 10.0 ** rng.uniform(-300.0, 15.9), 0.0, 10.0, 2.0**53])


def multivariate(rng: random.Random) -> dist.Distribution:
    d = rng.randrange(1, 7)
    lower = np.tril(np.array([[real(rng) for _ in range(d)] for _ in range(d)]), -1)
    np.fill_diagonal(lower, [min(positive(rng), 1e300) for _ in range(d)])  # numpy warns of overflows beyond
    return dist.MultivariateNormal([real(rng) for _ in range(d)], lower)


def urn(rng: random.Random) -> dist.Distribution:
    population = rng.choice([rng.randrange(30), rng.randrange(3000), rng.randrange(2**31 + 1), 2**31])
    return dist.Hypergeometric(population, rng.randrange(population + 1), rng.randrange(population + 1))


FAMILIES = {
    "Normal": lambda rng: dist.Normal(real(rng), positive(rng)),
    "Uniform": uniform,
    "Categorical": lambda rng: dist.Categorical(weights(rng, rng.choice([1, 2, 3, 10, 64, 65, 300]))),
    "Poisson": lambda rng: dist.Poisson(positive_rate(rng)),
    "Bernoulli": lambda rng: dist.Bernoulli(probability(rng)),
    "Beta": lambda rng: dist.Beta(positive(rng), positive(rng)),
    "Exponential": lambda rng: dist.Exponential(positive(rng)),
    "Gamma": lambda rng: dist.Gamma(positive(rng), positive(rng)),
    "LogNormal": lambda rng: dist.LogNormal(real(rng), positive(rng)),
    "Binomial": lambda rng: dist.Binomial(count(rng), probability(rng)),
    "Weibull": lambda rng: dist.Weibull(positive(rng), positive(rng)),
    "TruncatedNormal": lambda rng: dist.TruncatedNormal(rng.gauss(0.0, 3.0), positive(rng), *bounds(rng)),
    "VonMises": lambda rng: dist.VonMises(real(rng), positive(rng)),
    "Mixture": mixture,
    "MultivariateNormal": multivariate,
    "Delta": lambda rng: dist.Delta(rng.choice([real(rng), math.inf, -math.inf, -0.0])),
    "NegativeBinomial": lambda rng: dist.NegativeBinomial(positive(rng), min(probability(rng), 1.0 - 2.0**-53)),
    "NegativeBinomial2": lambda rng: dist.NegativeBinomial2(positive_rate(rng), positive(rng)),
    "BetaBinomial": lambda rng: dist.BetaBinomial(positive(rng), positive(rng), count(rng)),
    "Geometric": lambda rng: dist.Geometric(max(probability(rng), 5e-324)),
    "Hypergeometric": lambda rng: urn(rng),
    "ZeroInflatedPoisson": lambda rng: dist.ZeroInflatedPoisson(probability(rng), positive_rate(rng)),
    "StudentT": lambda rng: dist.StudentT(positive(rng), real(rng), positive(rng)),
    "Cauchy": lambda rng: dist.Cauchy(real(rng), positive(rng)),
    "HalfCauchy": lambda rng: dist.HalfCauchy(positive(rng)),
    "HalfNormal": lambda rng: dist.HalfNormal(positive(rng)),
    "Laplace": lambda rng: dist.Laplace(real(rng), positive(rng)),
    "Logistic": lambda rng: dist.Logistic(real(rng), positive(rng)),
    "Gumbel": lambda rng: dist.Gumbel(real(rng), positive(rng)),
    "InverseGamma": lambda rng: dist.InverseGamma(positive(rng), positive(rng)),
    "Pareto": lambda rng: dist.Pareto(positive(rng), positive(rng)),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_draws_are_the_same_numbers(family):
    rng = random.Random(f"draws of {family}")
    for index in range(SETS):
        assert_same(FAMILIES[family](rng), rng.randrange(2**64), rng.choice([index, rng.randrange(2**64)]))


TOGETHER = ("Uniform", "TruncatedNormal", "Hypergeometric")  # their parameters bound each other
ELEMENTWISE = [name for name in FAMILIES if name not in ("Mixture", "MultivariateNormal", "Categorical")]


@pytest.mark.parametrize("family", ELEMENTWISE)
def test_arrays_are_drawn_element_by_element(family):
    rng = random.Random(f"arrays of {family}")
    shapes = [((3,), ()), ((), (2, 3)), ((2, 1), (3,)), ((1,), (1, 1)), ((4, 1, 2), (3, 1))]
    for index in range(40):
        pair = rng.choice(shapes)
        singles = [FAMILIES[family](rng) for _ in range(24)]
        names = singles[0].parameters
        parameters = []
        for place, name in enumerate(names):
            shape = pair[place % 2] if family not in TOGETHER else pair[0]
            size = math.prod(shape)
            parameters.append(np.reshape([getattr(single, name) for single in singles[:size]], shape))
        if family == "TruncatedNormal":  # low and high of one single belong together, loc and scale may come from any
            parameters[0] = np.float64(parameters[0].ravel()[0])
        assert_same(getattr(dist, family)(*parameters), index, rng.randrange(2**64), 2)


def test_categorical_arrays():
    rng = random.Random(3)
    for index in range(60):
        shape = rng.choice([(3,), (2, 2), (1,), (2, 1, 3)])
        probs = np.reshape([weights(rng, 4) for _ in range(math.prod(shape))], (*shape, 4))
        assert_same(dist.Categorical(probs), index, 1)


def test_categories_of_totals_near_the_smallest_number():
    for probs in ([5e-324], [5e-324, 0.0], [0.0, 5e-324, 5e-324, 0.0], [TINY, 5e-324], [1e-323] * 3):
        for index in range(50):
            found, _ = draws(distribution(("Categorical", (len(probs),)), probs), 1, index, 1)
            expected = reference_category(probs, streams.Stream(1, index).random())
            assert found == [[expected]]


def reference_category(probs: list[float], uniform: float) -> float:
    """PROTOCOL.md, section 11, in so many words."""
    sums = [probs[0]]
    for p in probs[1:]:
        sums.append(sums[-1] + p)
    t = uniform * sums[-1]
    for k, s in enumerate(sums):
        if t < s:
            return float(k)
    return float(sums.index(sums[-1]))


def test_extreme_parameters_end_and_agree():
    for made in (
        dist.TruncatedNormal(0.0, 1e-300, 1e10, 2e10),
        dist.TruncatedNormal(0.0, 1e-300, -2e10, -1e10),
        dist.TruncatedNormal(0.0, 1.0, 8.0, math.nextafter(8.0, 9.0)),
        dist.TruncatedNormal(0.0, 1.0, -math.inf, -37.0),
        dist.TruncatedNormal(0.0, 1.0, -math.inf, math.inf),
        dist.VonMises(3.0, HUGE),
        dist.VonMises(-3.0, 5e-324),
        dist.Gamma(5e-324, HUGE),
        dist.Gamma(HUGE, 5e-324),
        dist.Beta(5e-324, 5e-324),
        dist.Beta(HUGE, HUGE),
        dist.Weibull(HUGE, 5e-324),
        dist.LogNormal(HUGE, HUGE),
        dist.Exponential(5e-324),
        dist.Poisson(2.0**53),
        dist.Binomial(2.0**53, 0.5),
        dist.Binomial(2.0**53, 1e-300),
        dist.NegativeBinomial2(2.0**53, 5e-324),
        dist.NegativeBinomial(HUGE, 1.0 - 2.0**-53),
        dist.BetaBinomial(5e-324, 5e-324, 2.0**53),
        dist.Geometric(5e-324),
        dist.Hypergeometric(2.0**31, 2.0**30, 2.0**30),
        dist.StudentT(5e-324, HUGE, HUGE),
        dist.Cauchy(-HUGE, HUGE),
        dist.InverseGamma(5e-324, HUGE),
        dist.Pareto(HUGE, 5e-324),
    ):
        for index in range(20):
            assert_same(made, 5, index)


# -- streams, known answers -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seed", "index"), [(0, 0), (1, 2), (0x0123456789ABCDEF, 0xFEDCBA9876543210), (2**64 - 1, 2**64 - 1)]
)
def test_streams_are_the_same_from_any_position(seed, index):
    core, stream = library(), Stream()
    rng = streams.Stream(seed, index)
    expected = [rng.random() for _ in range(41)]
    for position in (0, 1, 2, 17, 40):
        core.ppx_stream_start(stream, seed, index, position)
        assert [core.ppx_uniform(stream) for _ in range(41 - position)] == expected[position:]
        assert stream.position == 41


def test_a_stream_can_start_very_far_out():
    core, stream = library(), Stream()
    core.ppx_stream_start(stream, 7, 8, 2**63 + 1)
    far = streams.uniforms(7, np.array([8], dtype=np.uint64), 2**62, 1)[0]
    assert core.ppx_uniform(stream) == far[1]


KNOWN = [  # PROTOCOL.md, section 15: the first two draws from stream (42, 7) and the uniforms they take
    (("Normal", (), ()), [1.0, 2.0], ["0x1.c20fdd4ad2613p+1", "0x1.20f10fda6e5c8p-3"], 2),
    (("Uniform", (), ()), [-1.0, 3.0], ["0x1.4aa82198cfdcdp+1", "0x1.57398d36c7ec8p-2"], 2),
    (("Categorical", (3,)), [0.2, 0.3, 0.5], [2.0, 1.0], 2),
    (("Poisson", ()), [3.0], [5.0, 2.0], 2),
    (("Poisson", ()), [30.0], [38.0, 28.0], 4),
    (("Bernoulli", ()), [0.3], [0.0, 0.0], 2),
    (("Beta", (), ()), [0.5, 2.0], ["0x1.826d6861061b2p-2", "0x1.8cae163de06a0p-1"], 10),
    (("Exponential", ()), [2.0], ["0x1.c2a6f0dfa5553p-5", "0x1.18e3ed463c4f4p-1"], 2),
    (("Gamma", (), ()), [0.5, 2.0], ["0x1.c209ffecba203p-3", "0x1.2309edaaad4c3p-3"], 6),
    (("Gamma", (), ()), [3.0, 2.0], ["0x1.52cd6bc90a598p+1", "0x1.1714dd65cb04ap+0"], 4),
    (("LogNormal", (), ()), [0.0, 1.0], ["0x1.c2607defae2b4p+1", "0x1.4d3dc97e38e1ep-1"], 2),
    (("Binomial", (), ()), [10.0, 0.7], [5.0, 8.0], 2),
    (("Binomial", (), ()), [100.0, 0.4], [47.0, 38.0], 4),
    (("Weibull", (), ()), [2.0, 1.5], ["0x1.d63ce49127283p-2", "0x1.1055ee47fbef7p+1"], 2),
    (("TruncatedNormal", (), (), (), ()), [0.0, 1.0, 1.0, 2.0], ["0x1.0f7231343021dp+0", "0x1.7d6f674d618fap+0"], 2),
    (("TruncatedNormal", (), (), (), ()), [0.0, 1.0, 9.0, 12.0], ["0x1.280a89bbba058p+3", "0x1.21ac264d479f6p+3"], 4),
    (("VonMises", (), ()), [1.0, 2.0], ["0x1.75fea81de97b6p+0", "0x1.d8b253db967e4p-2"], 14),
    (
        ("Mixture", (2,), (("Normal", (), ()), ("Normal", (), ()))), [0.3, 0.7, 0.0, 1.0, 5.0, 1.0],
        ["0x1.2483c43f69b97p+2", "0x1.03f37fc4def58p+2"], 4,
    ),
    (
        ("MultivariateNormal", (2,), (2, 2)), [0.0, 1.0, 1.0, 0.0, 0.5, 2.0],
        ["0x1.420fdd4ad2613p+0", "0x1.8a4c21416df85p-1", "-0x1.45a7298f28dbfp-2", "-0x1.0918e70aed6f8p+0"], 4,
    ),
]  # fmt: skip


@pytest.mark.parametrize(("layout", "numbers", "expected", "uniforms"), KNOWN)
def test_known_draws(layout, numbers, expected, uniforms):
    found, position = draws(distribution(layout, numbers), 42, 7, 2)
    expected = [float.fromhex(number) if isinstance(number, str) else number for number in expected]
    assert ([number for value in found for number in value], position) == (expected, uniforms)


GOLDEN = json.loads((Path(__file__).parent / "golden" / "draws.json").read_text())


def layout_of(words: list) -> tuple:
    family, *shapes = words
    if family == "Mixture":
        return family, tuple(shapes[0]), tuple(layout_of(component) for component in shapes[1])
    return family, *map(tuple, shapes)


@pytest.mark.parametrize("entry", GOLDEN["samplers"], ids=lambda entry: entry["layout"][0])
def test_the_golden_draws(entry):
    made = distribution(layout_of(entry["layout"]), [float.fromhex(number) for number in entry["numbers"]])
    found, position = draws(made, int(GOLDEN["seed"]), int(GOLDEN["index"]), len(entry["draws"]))
    assert [bits(value) for value in found] == [bits(map(float.fromhex, value)) for value in entry["draws"]]
    assert position == entry["position"]


@pytest.mark.parametrize(
    ("seed", "index", "expected"),
    [
        (0, 0, "0x1.c2d38b1acc4fdp-1 0x1.3601b7b178af5p-1 0x1.72c8036fe3932p-2 0x1.2fdfecf634af0p-5"),
        (1, 2, "0x1.19db8ba7ce681p-1 0x1.415fbba7e0e30p-5 0x1.b60960a56f699p-1 0x1.c1679e688a830p-5"),
        (0x0123456789ABCDEF, 0xFEDCBA9876543210,
         "0x1.ed36b2a15de55p-1 0x1.136cae7479d69p-1 0x1.19c7f617b0aaep-2 0x1.2ddfb1d9d37b2p-2"),
    ],
)  # fmt: skip
def test_known_uniforms(seed, index, expected):
    core, stream = library(), Stream()
    core.ppx_stream_start(stream, seed, index, 0)
    assert [core.ppx_uniform(stream) for _ in range(4)] == [float.fromhex(number) for number in expected.split()]


# -- parameters outside the domain ------------------------------------------------------------------------------------

OUTSIDE = [
    ("Normal", 0.0, 0.0), ("Normal", math.nan, 1.0), ("Normal", math.inf, 1.0), ("Normal", 0.0, math.inf),
    ("Uniform", 1.0, 1.0), ("Uniform", 2.0, 1.0), ("Uniform", -HUGE, HUGE), ("Uniform", 0.0, math.inf),
    ("Poisson", -1.0), ("Poisson", math.nan), ("Poisson", 2.0**53 + 2.0), ("Bernoulli", 1.5), ("Bernoulli", -0.1),
    ("Beta", 0.0, 1.0), ("Beta", 1.0, math.inf), ("Exponential", 0.0), ("Gamma", -1.0, 1.0), ("Gamma", 1.0, math.nan),
    ("LogNormal", math.inf, 1.0), ("LogNormal", 0.0, 0.0), ("Binomial", 1.5, 0.5), ("Binomial", -1.0, 0.5),
    ("Binomial", 2.0**53 + 2.0, 0.5), ("Binomial", 1.0, 1.5), ("Weibull", 0.0, 1.0), ("Weibull", 1.0, -1.0),
    ("TruncatedNormal", 0.0, 1.0, 1.0, 1.0), ("TruncatedNormal", 0.0, 1.0, math.nan, 1.0),
    ("TruncatedNormal", 0.0, 0.0, 0.0, 1.0), ("TruncatedNormal", math.inf, 1.0, 0.0, 1.0), ("VonMises", 0.0, 0.0),
    ("VonMises", math.nan, 1.0), ("Delta", math.nan), ("Categorical", [0.0, 0.0]), ("Categorical", [-0.5, 1.0]),
    ("Categorical", [math.nan, 1.0]), ("Categorical", [HUGE, HUGE]), ("MultivariateNormal", [0.0], [[0.0]]),
    ("NegativeBinomial", 0.0, 0.5), ("NegativeBinomial", 1.0, 1.0), ("NegativeBinomial2", -1.0, 1.0),
    ("NegativeBinomial2", 2.0**53 + 2.0, 1.0), ("NegativeBinomial2", 1.0, 0.0), ("BetaBinomial", 0.0, 1.0, 3.0),
    ("BetaBinomial", 1.0, 1.0, 2.5), ("Geometric", 0.0), ("Geometric", 1.5), ("Geometric", math.nan),
    ("Hypergeometric", 2.0**31 + 1.0, 1.0, 1.0), ("Hypergeometric", 5.0, 6.0, 1.0), ("Hypergeometric", 5.0, 1.0, 6.0),
    ("Hypergeometric", 5.0, 1.5, 1.0), ("ZeroInflatedPoisson", 1.5, 1.0), ("ZeroInflatedPoisson", 0.5, math.nan),
    ("StudentT", 0.0, 0.0, 1.0), ("StudentT", 1.0, math.inf, 1.0), ("StudentT", 1.0, 0.0, 0.0), ("Cauchy", 0.0, 0.0),
    ("HalfCauchy", 0.0), ("HalfNormal", math.inf), ("Laplace", math.nan, 1.0), ("Logistic", 0.0, -1.0),
    ("Gumbel", math.inf, 1.0), ("InverseGamma", 0.0, 1.0), ("Pareto", 1.0, 0.0),
    ("MultivariateNormal", [0.0, 0.0], [[1.0, 0.5], [0.0, 1.0]]), ("MultivariateNormal", [math.inf], [[1.0]]),
]  # fmt: skip


@pytest.mark.parametrize("case", OUTSIDE, ids=str)
def test_what_python_refuses_c_refuses(case):
    family, *parameters = case
    with pytest.raises(ParameterError):
        getattr(dist, family)(*parameters)
    arrays = [np.asarray(parameter, dtype=float) for parameter in parameters]
    numbers = [number for array in arrays for number in array.ravel()]
    text = check(distribution((family, *(array.shape for array in arrays)), numbers))
    assert text.startswith(f"{family}: ")


def test_shapes_that_do_not_fit_are_refused():
    for layout in [
        ("Normal", (2,), (3,)), ("Categorical", ()), ("Categorical", (2, 0)), ("MultivariateNormal", (), (1, 1)),
        ("MultivariateNormal", (2,), (2, 3)), ("Mixture", (2,), (("Normal", (), ()),)),
        ("Mixture", (1,), (("Normal", (2,), ()),)), ("Mixture", (2,), (("Normal", (), ()), ("Poisson", ()))),
    ]:  # fmt: skip
        assert check(distribution(layout, [1.0] * width(layout))) != "", layout
    deep: tuple = ("Normal", (), ())
    for depth in range(1, 10):
        deep = ("Mixture", (1,), (deep,))
        assert (check(distribution(deep, [1.0] * width(deep))) == "") == (depth <= 8)


def width(layout: tuple) -> int:
    if layout[0] == "Mixture":
        return math.prod(layout[1]) + sum(width(component) for component in layout[2])
    return sum(math.prod(shape) for shape in layout[1:])


def test_no_family_is_refused():
    error = ctypes.create_string_buffer(100)
    for family in (0, 32, 2**32 - 1):
        assert library().ppx_check(Distribution(family=family), error, 100) != 0
        assert b"no such family" in error.value
