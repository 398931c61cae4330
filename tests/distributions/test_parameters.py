"""Parameters: what is refused and how it is said, what is accepted, and that a distribution is a value of its own."""

import json
import math
import subprocess
import sys

import numpy as np
import pytest
from scipy_twins import CASES, INF, NAMES

from ppl_jax import distributions as d
from ppl_jax.distributions.layouts import FAMILIES, count_numbers, is_discrete, rebuild
from ppl_jax.errors import ParameterError
from ppl_jax.streams import Stream

NAN = float("nan")
NORMAL = d.Normal(0.0, 1.0)
EYE = np.eye(2)

REFUSED = [
    (d.Normal, (NAN, 1.0), "loc"), (d.Normal, (INF, 1.0), "loc"), (d.Normal, (0.0, 0.0), "scale"),
    (d.Normal, (0.0, -1.0), "scale"), (d.Normal, (0.0, NAN), "scale"), (d.Normal, (0.0, INF), "scale"),
    (d.Normal, (0, 0), "scale"), (d.Normal, (None, 1.0), "loc"),
    (d.Uniform, (1.0, 1.0), "high"), (d.Uniform, (2.0, 1.0), "high"), (d.Uniform, (NAN, 1.0), "low"),
    (d.Uniform, (0.0, NAN), "high"), (d.Uniform, (-INF, 1.0), "low"), (d.Uniform, (0.0, INF), "high"),
    (d.Uniform, (-1.7e308, 1.7e308), "high"),
    (d.Poisson, (-1.0,), "rate"), (d.Poisson, (NAN,), "rate"), (d.Poisson, (INF,), "rate"),
    (d.Poisson, (1e17,), "rate"),
    (d.Bernoulli, (-0.1,), "probs"), (d.Bernoulli, (1.1,), "probs"), (d.Bernoulli, (NAN,), "probs"),
    (d.Beta, (0.0, 1.0), "concentration1"), (d.Beta, (1.0, -1.0), "concentration0"),
    (d.Beta, (NAN, 1.0), "concentration1"),
    (d.Exponential, (0.0,), "rate"), (d.Exponential, (NAN,), "rate"), (d.Exponential, (INF,), "rate"),
    (d.Gamma, (-1.0, 1.0), "concentration"), (d.Gamma, (1.0, 0.0), "rate"), (d.Gamma, (1.0, NAN), "rate"),
    (d.LogNormal, (NAN, 1.0), "loc"), (d.LogNormal, (0.0, 0.0), "scale"), (d.LogNormal, (0.0, NAN), "scale"),
    (d.Binomial, (-1.0, 0.5), "total_count"), (d.Binomial, (2.5, 0.5), "total_count"),
    (d.Binomial, (NAN, 0.5), "total_count"),
    (d.Binomial, (INF, 0.5), "total_count"), (d.Binomial, (3, 1.5), "probs"), (d.Binomial, (3, NAN), "probs"),
    (d.Weibull, (0.0, 1.0), "scale"), (d.Weibull, (1.0, -1.0), "concentration"), (d.Weibull, (NAN, 1.0), "scale"),
    (d.TruncatedNormal, (NAN, 1.0, 0.0, 1.0), "loc"), (d.TruncatedNormal, (0.0, 0.0, 0.0, 1.0), "scale"),
    (d.TruncatedNormal, (0.0, 1.0, 1.0, 1.0), "high"), (d.TruncatedNormal, (0.0, 1.0, 2.0, 1.0), "high"),
    (d.TruncatedNormal, (0.0, 1.0, NAN, 1.0), "low"), (d.TruncatedNormal, (0.0, 1.0, 0.0, NAN), "high"),
    (d.TruncatedNormal, (0.0, 1.0, INF, INF), "high"),
    (d.VonMises, (NAN, 1.0), "loc"), (d.VonMises, (0.0, 0.0), "concentration"),
    (d.VonMises, (0.0, NAN), "concentration"),
    (d.Categorical, ([0.5, -0.1],), "probs"), (d.Categorical, ([0.0, 0.0],), "probs"),
    (d.Categorical, ([NAN, 1.0],), "probs"), (d.Categorical, ([1.0, NAN],), "probs"),
    (d.Categorical, ([INF, 1.0],), "probs"), (d.Categorical, (0.5,), "probs"), (d.Categorical, ([],), "probs"),
    (d.Categorical, (np.zeros((2, 0)),), "probs"), (d.Categorical, ([1e308, 1e308],), "probs"),
    (d.Categorical, ([[0.5, 0.5], [0.0, 0.0]],), "probs"), (d.Categorical, ([[0.5, 0.5], [2.0, -1.0]],), "probs"),
    (d.Categorical, (np.full(100, NAN),), "probs"), (d.Categorical, (np.full(100, -1.0),), "probs"),
    (d.NegativeBinomial, (0.0, 0.5), "total_count"), (d.NegativeBinomial, (NAN, 0.5), "total_count"),
    (d.NegativeBinomial, (1.0, 1.0), "probs"), (d.NegativeBinomial, (1.0, -0.1), "probs"),
    (d.NegativeBinomial, (1.0, NAN), "probs"), (d.NegativeBinomial, (1.0, None), "probs"),
    (d.NegativeBinomial2, (-1.0, 1.0), "mean"), (d.NegativeBinomial2, (NAN, 1.0), "mean"),
    (d.NegativeBinomial2, (INF, 1.0), "mean"), (d.NegativeBinomial2, (1.0, 0.0), "concentration"),
    (d.NegativeBinomial2, (1.0, INF), "concentration"),
    (d.BetaBinomial, (0.0, 1.0, 3.0), "concentration1"), (d.BetaBinomial, (1.0, NAN, 3.0), "concentration0"),
    (d.BetaBinomial, (1.0, 1.0, 2.5), "total_count"), (d.BetaBinomial, (1.0, 1.0, -1.0), "total_count"),
    (d.Geometric, (0.0,), "probs"), (d.Geometric, (1.1,), "probs"), (d.Geometric, (NAN,), "probs"),
    (d.Hypergeometric, (5.5, 1.0, 1.0), "population"), (d.Hypergeometric, (1e10, 1.0, 1.0), "population"),
    (d.Hypergeometric, (5.0, 6.0, 1.0), "successes"), (d.Hypergeometric, (5.0, 1.0, 6.0), "draws"),
    (d.Hypergeometric, (5.0, NAN, 1.0), "successes"), (d.Hypergeometric, (5.0, 1.0, -1.0), "draws"),
    (d.StudentT, (0.0, 0.0, 1.0), "df"), (d.StudentT, (NAN, 0.0, 1.0), "df"), (d.StudentT, (1.0, INF, 1.0), "loc"),
    (d.StudentT, (1.0, 0.0, 0.0), "scale"),
    (d.Cauchy, (NAN, 1.0), "loc"), (d.Cauchy, (0.0, 0.0), "scale"), (d.HalfCauchy, (0.0,), "scale"),
    (d.HalfCauchy, (NAN,), "scale"), (d.HalfNormal, (-1.0,), "scale"), (d.HalfNormal, (INF,), "scale"),
    (d.Laplace, (NAN, 1.0), "loc"), (d.Laplace, (0.0, 0.0), "scale"), (d.Logistic, (INF, 1.0), "loc"),
    (d.Logistic, (0.0, NAN), "scale"), (d.Gumbel, (NAN, 1.0), "loc"), (d.Gumbel, (0.0, -1.0), "scale"),
    (d.InverseGamma, (0.0, 1.0), "concentration"), (d.InverseGamma, (1.0, NAN), "rate"),
    (d.Pareto, (0.0, 1.0), "scale"), (d.Pareto, (1.0, 0.0), "alpha"), (d.Pareto, (1.0, NAN), "alpha"),
    (d.ZeroInflatedPoisson, (1.1, 1.0), "gate"), (d.ZeroInflatedPoisson, (0.5, -1.0), "rate"),
    (d.Dirichlet, ([1.0, 0.0],), "concentration"), (d.Dirichlet, (1.0,), "concentration"),
    (d.Dirichlet, ([],), "concentration"), (d.Dirichlet, ([[1.0, NAN]],), "concentration"),
    (d.Multinomial, (2.5, [0.5, 0.5]), "total_count"), (d.Multinomial, (3.0, 0.5), "probs"),
    (d.Multinomial, (3.0, [0.0, 0.0]), "probs"), (d.Multinomial, (3.0, [NAN, 1.0]), "probs"),
    (d.Multinomial, ([1.0, 2.0, 3.0], [[0.5, 0.5], [0.1, 0.9]]), "probs"),
    (d.Mixture, ([0.5, 0.5], [NORMAL]), "components"),
    (d.Mixture, ([1.0, 1.0], [NORMAL, d.Poisson(1.0)]), "components"),
    (d.Mixture, ([1.0], [d.Normal(np.zeros(2), 1.0)]), "components"), (d.Mixture, ([[1.0]], [NORMAL]), "components"),
    (d.Mixture, ([-1.0, 2.0], [NORMAL, NORMAL]), "probs"), (d.Mixture, ([], []), "probs"),
    (d.MultivariateNormal, (0.0, 1.0), "loc"), (d.MultivariateNormal, ([NAN, 0.0], EYE), "loc"),
    (d.MultivariateNormal, ([0.0, 0.0], np.eye(3)), "scale_tril"),
    (d.MultivariateNormal, ([0.0, 0.0], -EYE), "scale_tril"),
    (d.MultivariateNormal, ([0.0, 0.0], [[1.0, 0.5], [0.0, 1.0]]), "scale_tril"),
    (d.MultivariateNormal, ([0.0, 0.0], [[1.0, 0.0], [NAN, 1.0]]), "scale_tril"),
    (d.Delta, (NAN,), "value"), (d.Delta, ([1.0, NAN],), "value"),
    (d.Factor, (NAN,), "log_factor"), (d.Factor, (INF,), "log_factor"), (d.Factor, ([1.0, 2.0],), "log_factor"),
]  # fmt: skip


@pytest.mark.parametrize(("family", "parameters", "name"), REFUSED, ids=[f"{f.__name__}{p}" for f, p, _ in REFUSED])
def test_refused_parameters_are_named(family, parameters, name):
    with pytest.raises(ParameterError) as raised:
        family(*parameters)
    error = raised.value
    culprit = "Categorical" if family is d.Mixture and name == "probs" else family.__name__
    assert (error.family, error.parameter) == (culprit, name)
    assert culprit in str(error) and f"'{name}'" in str(error) and error.expected in str(error)


def test_every_family_refuses_something():
    assert {family.__name__ for family, _, _ in REFUSED} == set(FAMILIES)


@pytest.mark.parametrize(("family", "parameters", "name"), [
    row for row in REFUSED if issubclass(row[0], tuple({f for f, _ in CASES})) and None not in row[1]
])  # fmt: skip
def test_one_bad_element_of_an_array_is_refused(family, parameters, name):
    place = family.parameters.index(name)
    good = dict(CASES)[family]
    column = np.array([good[place], good[place], parameters[place]])
    arrays = [*parameters[:place], column, *parameters[place + 1 :]]
    with pytest.raises(ParameterError, match=f"{family.__name__}: parameter '{name}'"):
        family(*arrays)


@pytest.mark.parametrize("family", sorted({f for f, p in CASES if len(p) > 1}, key=lambda f: f.__name__))
def test_shapes_that_do_not_broadcast_are_refused(family):
    good = dict(CASES)[family]
    arrays = [np.full(2 + place, parameter) for place, parameter in enumerate(good)]
    message = f"{family.__name__}: parameter '{family.parameters[-1]}' must be broadcast"
    with pytest.raises(ParameterError, match=message):
        family(*arrays)


@pytest.mark.parametrize(("family", "parameters"), CASES, ids=NAMES)
def test_numbers_of_any_kind_are_accepted(family, parameters):
    expected = family(*parameters)
    assert family(*[np.float64(p) for p in parameters]) == expected
    assert family(*[np.array(p) for p in parameters]) == expected
    assert all(type(getattr(expected, name)) is float for name in family.parameters)
    if all(p == int(p) for p in parameters if math.isfinite(p)) and all(map(math.isfinite, parameters)):
        assert family(*[int(p) for p in parameters]) == expected
        assert family(*[np.int64(p) for p in parameters]) == expected
        assert family(*[np.int32(p) if abs(p) < 2**31 else p for p in parameters]) == expected
    array = family(*[[p, p] for p in parameters])
    assert array.shape == (2,)
    assert all(getattr(array, name).dtype == np.float64 for name in family.parameters)


def test_concrete_jax_arrays_become_numpy(x64):
    import jax.numpy as jnp

    normal = d.Normal(jnp.array([1.0, 2.0]), jnp.array(3.0))
    assert type(normal.loc) is np.ndarray and type(normal.scale) is float
    assert normal == d.Normal([1.0, 2.0], 3.0)
    assert d.Categorical(jnp.array([0.25, 0.75])) == d.Categorical([0.25, 0.75])
    assert d.Categorical([jnp.array(0.25), 0.75]) == d.Categorical([0.25, 0.75])
    assert d.MultivariateNormal(jnp.zeros(2), jnp.eye(2)) == d.MultivariateNormal(np.zeros(2), np.eye(2))
    assert d.Factor(jnp.array(-1.0)) == d.Factor(-1.0)
    assert d.Normal(0.0, 1.0).log_prob(jnp.array(0.5)) == d.Normal(0.0, 1.0).log_prob(0.5)
    assert type(d.Normal(0.0, 1.0).log_prob(jnp.array([0.5, 1.0]))) is np.ndarray
    with pytest.raises(ParameterError, match="Normal: parameter 'scale'"):
        d.Normal(jnp.zeros(2), jnp.array([1.0, -1.0]))


def test_the_host_side_does_not_import_jax():
    program = (
        "import sys; from ppl_jax import distributions as d; from ppl_jax.streams import Stream; r = Stream(1)\n"
        "for x in (d.Normal(0, 1), d.Categorical([1, 2]), d.Mixture([1, 1], [d.Beta(1, 2), d.Gamma([1.0][0], 2)])):\n"
        "    x.log_prob(x.sample(r))\n"
        "assert 'jax' not in sys.modules and 'numpyro' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_a_distribution_does_not_follow_later_changes_of_an_array():
    loc, probs = np.zeros(2), np.full(100, 0.01)
    normal, categorical = d.Normal(loc, 1.0), d.Categorical(probs)
    loc[0], probs[0] = 5.0, 7.0
    assert normal.loc.tolist() == [0.0, 0.0] and categorical.probs[0] == 0.01
    for array in (normal.loc, categorical.probs, d.Categorical([0.5, 0.5]).probs):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1.0


COMPOSITES = [
    d.Categorical([0.2, 0.3, 0.5]),
    d.Categorical([1, 2, 4]),
    d.Categorical([1.0 / 3.0] * 3),
    d.Categorical(np.arange(1.0, 101.0)),
    d.Categorical([[0.5, 0.5], [0.1, 0.9]]),
    d.Mixture([0.3, 0.7], [d.Normal(0.0, 1.0), d.Gamma(2.0, 3.0)]),
    d.Mixture([3, 1], [d.Poisson(4.0), d.Categorical([0.5, 0.25, 0.25])]),
    d.Mixture([1, 1], [d.Mixture([0.1, 0.9], [d.Beta(1.0, 2.0), d.Uniform(0.0, 1.0)]), d.Delta(0.5)]),
    d.MultivariateNormal([1.0, 2.0], [[1.0, 0.0], [0.5, 2.0]]),
    d.Normal(np.array([1.0, 2.0, 3.0]), 2.0),
    d.Gamma(np.ones((2, 1)), np.ones(3)),
    d.Delta(4.0),
    d.Delta([1.0, 2.0]),
    d.Dirichlet([0.5, 1.0, 2.0]),
    d.Dirichlet([[0.5, 1.0], [3.0, 4.0]]),
    d.Multinomial(7, [0.2, 0.3, 0.5]),
    d.Multinomial([3, 4], [0.2, 0.8]),
    d.ZeroInflatedPoisson(0.3, 4.0),
    d.NegativeBinomial2(np.array([1.0, 2.0]), 0.5),
    d.NegativeBinomial2(1.0, np.array([0.5, 3.0])),
    d.Factor(-2.0),
    d.Factor(-INF),
]
EVERY = [family(*parameters) for family, parameters in CASES] + COMPOSITES


@pytest.mark.parametrize("distribution", EVERY, ids=repr)
def test_layout_and_numbers_give_the_distribution_back(distribution):
    layout, numbers = distribution.layout(), distribution.numbers()
    hash(layout)
    assert all(type(number) is float for number in numbers)
    assert count_numbers(layout) == len(numbers)
    assert is_discrete(layout) == distribution.discrete
    through_json = json.loads(json.dumps(layout))
    for back in (rebuild(layout, numbers), rebuild(through_json, np.array(numbers))):
        assert back == distribution and hash(back) == hash(distribution)
        assert back.layout() == layout and back.numbers() == numbers
        assert back.shape == distribution.shape and repr(back) == repr(distribution)
        drawn, again = distribution.sample(Stream(1)), back.sample(Stream(1))
        assert np.array_equal(drawn, again) if drawn is not None else again is None


def test_equality_is_by_family_and_parameters():
    assert d.Normal(0.0, 1.0) == d.Normal(0, 1)
    assert d.Normal(0.0, 1.0) != d.Normal(0.0, 2.0)
    assert d.Normal(0.0, 1.0) != d.LogNormal(0.0, 1.0)
    assert d.Normal(0.0, 1.0) != d.Normal(np.zeros(1), 1.0)
    assert d.Normal(0.0, 1.0) != "Normal"
    assert d.Mixture([1, 1], [NORMAL, NORMAL]) != d.Mixture([1, 1], [NORMAL, d.Normal(1.0, 1.0)])
    assert len({d.Poisson(2.0), d.Poisson(2), d.Poisson(3.0)}) == 2


def test_repr_can_be_read_back():
    mixture = d.Mixture([1.0], [d.Normal(0.0, 1.0)])
    for distribution in (d.TruncatedNormal(0.0, 1.0, -1.0, 2.0), d.Beta(2.0, 3.0), mixture):
        names = {**vars(d), "array": np.array}
        assert eval(repr(distribution), names) == distribution


def test_categorical_probs_are_normalised():
    assert d.Categorical([1, 3]).probs.tolist() == [0.25, 0.75]
    assert d.Categorical([0.2, 0.3, 0.5]).numbers() == [0.2, 0.3, 0.5]
    assert d.Categorical(np.ones((2, 4))).probs.tolist() == [[0.25] * 4] * 2
    assert d.Categorical([True, False]).probs.tolist() == [1.0, 0.0]


@pytest.mark.parametrize("family", sorted({family for family, _ in CASES}, key=lambda family: family.__name__))
def test_no_text_is_made_of_parameters_that_are_fine(family):
    """Printing 600 numbers takes a hundred times as long as checking them."""

    def printed(number):
        raise AssertionError("a parameter was printed")

    parameters = [np.full(600, number) for number in next(p for f, p in CASES if f is family)]
    with np.printoptions(formatter={"all": printed}):
        distribution = family(*parameters)
        distribution.log_prob(distribution.sample(Stream(1)))
        with pytest.raises(AssertionError, match="was printed"):
            repr(distribution)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: d.Uniform(np.array([0.0, 2.0]), 1.0), r"'high' must be above low = array\(\[0\., 2\.\]\), got 1\.0"),
        (lambda: d.Uniform(-1.7e308, np.array([1.7e308])), "within 1.8e[+]308 .* of low = -1.7e[+]308"),
        (lambda: d.TruncatedNormal(0.0, 1.0, 0.0, np.array([1.0, 0.0])), r"above low = 0\.0, got array"),
        (lambda: d.Binomial(np.array([3.0, 2.5]), 0.5), r"an integer in \[0, 2\*\*53\], got array\(\[3\. , 2\.5\]\)"),
    ],
)
def test_what_is_wrong_is_printed(make, text):
    with pytest.raises(ParameterError, match=text):
        make()
