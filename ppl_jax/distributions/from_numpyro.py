"""numpyro's distributions as ours: the family we have, or a wrapper that lets numpyro compute.

A wrapped distribution is described by a *recipe*, such as ``numpyro.Laplace(loc,scale).expand(8).to_event(1)``: the
class, its array arguments by name, its integer ones with their values, and how it was expanded. The recipe stands in
layouts as the name of the family, and the arrays are its numbers, so wrapped distributions are stored like any other.
numpyro is imported only when a numpyro distribution turns up.
"""

from __future__ import annotations

import inspect
import math
import re
from functools import cache, partial
from typing import Any, ClassVar, NamedTuple

import numpy as np

from ppl_jax.distributions.base import Distribution, UniformSource, as_parameter, is_tracer
from ppl_jax.distributions.bernoulli import Bernoulli
from ppl_jax.distributions.beta import Beta
from ppl_jax.distributions.beta_binomial import BetaBinomial
from ppl_jax.distributions.binomial import Binomial
from ppl_jax.distributions.categorical import Categorical
from ppl_jax.distributions.cauchy import Cauchy, HalfCauchy
from ppl_jax.distributions.delta import Delta
from ppl_jax.distributions.dirichlet import Dirichlet
from ppl_jax.distributions.gamma import Exponential, Gamma
from ppl_jax.distributions.geometric import Geometric
from ppl_jax.distributions.gumbel import Gumbel
from ppl_jax.distributions.half_normal import HalfNormal
from ppl_jax.distributions.inverse_gamma import InverseGamma
from ppl_jax.distributions.laplace import Laplace
from ppl_jax.distributions.logistic import Logistic
from ppl_jax.distributions.lognormal import LogNormal
from ppl_jax.distributions.mixture import Mixture
from ppl_jax.distributions.multinomial import Multinomial
from ppl_jax.distributions.multivariate_normal import MultivariateNormal
from ppl_jax.distributions.negative_binomial import NegativeBinomial, NegativeBinomial2
from ppl_jax.distributions.normal import Normal
from ppl_jax.distributions.pareto import Pareto
from ppl_jax.distributions.poisson import Poisson
from ppl_jax.distributions.student_t import StudentT
from ppl_jax.distributions.truncated_normal import TruncatedNormal
from ppl_jax.distributions.uniform import Uniform
from ppl_jax.distributions.von_mises import VonMises
from ppl_jax.distributions.weibull import Weibull
from ppl_jax.distributions.zero_inflated import ZeroInflatedPoisson
from ppl_jax.errors import PPLError

PREFIX = "numpyro."

#: numpyro's class -> our family, where the parameters have the same names.
_NAMESAKES: dict[str, Any] = {
    "Normal": Normal, "Uniform": Uniform, "CategoricalProbs": Categorical, "Poisson": Poisson,
    "BernoulliProbs": Bernoulli, "Beta": Beta, "Exponential": Exponential, "Gamma": Gamma, "LogNormal": LogNormal,
    "BinomialProbs": Binomial, "Weibull": Weibull, "VonMises": VonMises,
    "CategoricalLogits": Categorical, "BernoulliLogits": Bernoulli, "BinomialLogits": Binomial,
    "BetaBinomial": BetaBinomial, "Cauchy": Cauchy, "Chi2": Gamma, "Dirichlet": Dirichlet,
    "GammaPoisson": NegativeBinomial2,
    "GeometricProbs": Geometric, "Gumbel": Gumbel, "HalfCauchy": HalfCauchy,
    "HalfNormal": HalfNormal, "InverseGamma": InverseGamma, "Laplace": Laplace, "Logistic": Logistic,
    "MultinomialProbs": Multinomial, "MultinomialLogits": Multinomial, "NegativeBinomialProbs": NegativeBinomial,
    "NegativeBinomial2": NegativeBinomial2, "Pareto": Pareto, "StudentT": StudentT,
    "ZeroInflatedPoisson": ZeroInflatedPoisson,
}  # fmt: skip

_TRUNCATED = (
    "TwoSidedTruncatedDistribution", "LeftTruncatedDistribution", "RightTruncatedDistribution", "TruncatedNormalTwin",
)  # fmt: skip


def from_numpyro(distribution: Any) -> Distribution:
    """Our distribution with the density of a numpyro one, batch and event dimensions together.

    Raises:
      PPLError: it is built of parts that a recipe cannot name (transforms, masks, classes of the user's).
    """
    ours = _ours(distribution)
    shape = tuple(distribution.batch_shape) + tuple(distribution.event_shape)
    return ours if ours is not None and ours.shape == shape else describe(distribution)


def _ours(distribution: Any) -> Distribution | None:
    """The same distribution in one of our families; None if there is none."""
    name, batch = type(distribution).__name__, tuple(distribution.batch_shape)
    if name in ("ExpandedDistribution", "Independent"):
        inner = _ours(distribution.base_dist)
        return None if inner is None else _expand(inner, batch + tuple(distribution.event_shape))
    if name in _NAMESAKES:
        ours = _NAMESAKES[name]
        if name in ("BernoulliLogits", "CategoricalLogits", "BinomialLogits"):
            counts = (distribution.total_count,) if ours is Binomial else ()
            return _expand(ours(*counts, logits=distribution.logits), batch)
        arguments = (getattr(distribution, parameter) for parameter in ours.parameters)
        return _expand(ours(*arguments), batch + tuple(distribution.event_shape))
    if name == "NegativeBinomialLogits":
        return _expand(NegativeBinomial(distribution.total_count, logits=distribution.logits), batch)
    if name == "GeometricLogits":
        return _expand(Geometric(logits=distribution.logits), batch)
    if name in _TRUNCATED:
        base = distribution.base_dist
        if type(base).__name__ != "Normal":
            return None
        low, high = getattr(distribution, "low", -math.inf), getattr(distribution, "high", math.inf)
        return _expand(TruncatedNormal(base.loc, base.scale, low, high), batch)
    if name == "Delta" and not is_tracer(distribution.log_density) and not np.any(distribution.log_density):
        return Delta(distribution.v)
    if name == "MultivariateNormal" and not batch:
        return MultivariateNormal(distribution.loc, distribution.scale_tril)
    if name == "MixtureGeneral" and not batch and not distribution.event_shape:
        components = [_ours(component) for component in distribution.component_distributions]
        if all(component is not None and component.shape == () for component in components):
            return Mixture(distribution.mixing_distribution.probs, components)  # type: ignore[arg-type]
    return None


def _expand(distribution: Distribution, shape: tuple[int, ...]) -> Distribution | None:
    """The distribution repeated to ``shape``; None if it has parts that cannot be."""
    if distribution.shape == shape:
        return distribution
    if isinstance(distribution, (Mixture, MultivariateNormal)):
        return None
    ours: Any = type(distribution)
    if getattr(distribution, "logits", None) is not None:
        ours = partial(_from_logits, ours, distribution.logits)
    first, *others = (getattr(distribution, name) for name in distribution.parameters)
    target = shape
    if isinstance(distribution, Categorical):
        target = shape + first.shape[-1:]
    elif isinstance(distribution, Multinomial):
        target = shape[:-1]
    if is_tracer(first):
        import jax.numpy as jnp

        return ours(jnp.broadcast_to(first, target), *others)
    return ours(np.broadcast_to(first, target), *others)


def _from_logits(ours: Any, logits: Any, first: Any, *others: Any) -> Distribution:
    """``ours`` from log odds of which the probabilities, among its parameters, were repeated."""
    shape = np.shape(first)
    xp: Any = np
    if is_tracer(logits):
        import jax.numpy as jnp

        xp = jnp
    if ours in (Binomial, NegativeBinomial):
        return ours(first, logits=xp.broadcast_to(logits, shape))
    return ours(logits=xp.broadcast_to(logits, shape))


# -- wrapped distributions ---------------------------------------------------------------------------------------------


class NumpyroDistribution(Distribution):
    """A numpyro distribution that is none of our families. Host draws and densities go through JAX: right, but slow.

    Each recipe has a subclass of its own, made by :func:`family`; it is called with the array arguments.
    """

    __slots__ = ("_values", "twin")
    recipe: ClassVar[Recipe]

    def __init__(self, *values: Any):
        self._values = dict(zip(self.parameters, (as_parameter(value) for value in values), strict=True))
        self.twin = self.recipe.build(self._values)
        trust(self.twin)
        self.shape = tuple(self.twin.batch_shape) + tuple(self.twin.event_shape)

    def __getattr__(self, name: str) -> Any:
        if name != "_values" and name in self._values:
            return self._values[name]
        raise AttributeError(name)

    def sample(self, rng: UniformSource) -> Any:
        import jax

        words = np.array([int(rng.random() * 2**32), int(rng.random() * 2**32)], dtype=np.uint32)
        value = self.twin.sample(jax.random.wrap_key_data(jax.numpy.asarray(words), impl="threefry2x32"))
        return np.asarray(value, dtype=np.int64 if self.discrete else np.float64)[()]

    def log_prob(self, value: Any) -> Any:
        import jax.numpy as jnp

        from ppl_jax.distributions.choice_twins import inside_only

        value = jnp.asarray(value)
        density = inside_only(self.twin, value)
        return density if is_tracer(density) else np.asarray(density, dtype=np.float64)[()]

    def inside(self, value: Any) -> Any:
        """Whether each value lies in the support, over the batch dimensions."""
        return self.twin.support(value)

    def to_numpyro(self) -> Any:
        return self.twin

    @property
    def mean(self) -> Any:
        return np.asarray(self.twin.mean, dtype=np.float64)[()]

    @property
    def variance(self) -> Any:
        return np.asarray(self.twin.variance, dtype=np.float64)[()]

    @property
    def support(self) -> tuple[Any, Any]:
        constraint = self.twin.support
        return getattr(constraint, "lower_bound", -math.inf), getattr(constraint, "upper_bound", math.inf)


def trust(twin: Any) -> None:
    """No more checks of the values it is asked about: those outside the support are known to be possible."""
    while twin is not None:
        twin._validate_args = False
        for component in getattr(twin, "component_distributions", ()):
            trust(component)
        twin = getattr(twin, "base_dist", None)


class Recipe(NamedTuple):
    """A parsed recipe: class, array arguments, integer arguments, and the calls that follow."""

    name: str
    arrays: tuple[str, ...]
    integers: dict[str, int]
    calls: tuple[tuple[str, tuple[int, ...]], ...]

    @property
    def discrete(self) -> bool:
        """Whether values are integers, as numpyro declares it for the class."""
        from numpyro import distributions as npd

        return bool(getattr(getattr(npd, self.name).support, "is_discrete", False))

    def build(self, values: dict[str, Any]) -> Any:
        """The numpyro distribution with these array arguments."""
        from numpyro import distributions as npd

        distribution = getattr(npd, self.name)(**values, **self.integers)
        for call, arguments in self.calls:
            distribution = distribution.expand(arguments) if call == "expand" else distribution.to_event(*arguments)
        return distribution

    def __str__(self) -> str:
        arguments = [*self.arrays, *(f"{name}={value}" for name, value in self.integers.items())]
        calls = "".join(f".{call}({','.join(map(str, numbers))})" for call, numbers in self.calls)
        return f"{PREFIX}{self.name}({','.join(arguments)}){calls}"


@cache
def family(recipe: str) -> type[NumpyroDistribution]:
    """The class of the distributions with this recipe.

    Raises:
      PPLError: it is not a recipe, or names a class that the installed numpyro does not have.
    """
    parsed = parse(recipe)
    attributes = {"recipe": parsed, "parameters": parsed.arrays, "discrete": parsed.discrete, "__slots__": ()}
    return type(recipe, (NumpyroDistribution,), attributes)


_RECIPE = re.compile(r"numpyro\.(\w+)\(([\w,=-]*)\)((?:\.(?:expand|to_event)\([\d,]*\))*)")


def parse(recipe: str) -> Recipe:
    """The recipe that ``str`` gave.

    Raises:
      PPLError: it is not a recipe, or names a class that the installed numpyro does not have.
    """
    from numpyro import distributions as npd

    match = _RECIPE.fullmatch(recipe)
    if match is None or not inspect.isclass(getattr(npd, match[1], None)):
        raise PPLError(f"{recipe!r} names no distribution of the installed numpyro. Use the version that stored it.")
    arguments = [part.partition("=") for part in match[2].split(",") if part]
    calls = re.findall(r"\.(expand|to_event)\(([\d,]*)\)", match[3])
    return Recipe(
        match[1],
        tuple(name for name, equals, _ in arguments if not equals),
        {name: int(value) for name, equals, value in arguments if equals},
        tuple((call, tuple(int(number) for number in numbers.split(",") if number)) for call, numbers in calls),
    )


def describe(distribution: Any) -> NumpyroDistribution:
    """The wrapper of a numpyro distribution, built anew from its recipe.

    Raises:
      PPLError: a recipe cannot name all its parts.
    """
    from numpyro import distributions as npd

    calls: list[tuple[str, tuple[int, ...]]] = []
    base = distribution
    while type(base).__name__ in ("ExpandedDistribution", "Independent"):
        if type(base).__name__ == "Independent":
            calls.insert(0, ("to_event", (base.reinterpreted_batch_ndims,)))
        else:
            calls.insert(0, ("expand", tuple(base.batch_shape)))
        base = base.base_dist
    name = type(base).__name__
    found = _arguments(base) if getattr(npd, name, None) is type(base) else None
    if found is not None:
        arrays, integers = found
        recipe = Recipe(name, tuple(arrays), integers, tuple(calls))
        try:
            ours = family(str(recipe))(*arrays.values())
        except (TypeError, ValueError, PPLError):
            pass
        else:
            if ours.twin.batch_shape == distribution.batch_shape and ours.twin.event_shape == distribution.event_shape:
                return ours
    raise PPLError(
        f"numpyro's {name} is made of parts that a trace cannot record (only numpyro's own classes with "
        "numeric arguments can be, expanded or made into events). Use such a one, or write the density as a factor."
    )


def _arguments(distribution: Any) -> tuple[dict[str, Any], dict[str, int]] | None:
    """The constructor's array and integer arguments; None if there are others."""
    arrays: dict[str, Any] = {}
    integers: dict[str, int] = {}
    for name, parameter in inspect.signature(type(distribution).__init__).parameters.items():
        if name in ("self", "validate_args"):
            continue
        held = distribution.__dict__.get(name, inspect.Parameter.empty)
        if held is inspect.Parameter.empty and parameter.default is inspect.Parameter.empty:
            held = getattr(distribution, name, None)
        if held is inspect.Parameter.empty or held is parameter.default:
            continue
        if isinstance(held, int) and not isinstance(held, bool):
            integers[name] = held
        elif isinstance(held, (float, np.ndarray, np.generic)) or type(held).__module__.startswith(("jax.", "jaxlib.")):
            arrays[name] = held
        else:
            return None
    if "scale_tril" in arrays:  # kept beside what it was computed from, but a constructor takes one of them
        arrays.pop("covariance_matrix", None)
        arrays.pop("precision_matrix", None)
    return arrays, integers
