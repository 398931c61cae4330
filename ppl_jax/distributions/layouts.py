"""From a distribution's layout and numbers back to the distribution."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ppl_jax.distributions.base import Distribution
from ppl_jax.distributions.bernoulli import Bernoulli
from ppl_jax.distributions.beta import Beta
from ppl_jax.distributions.beta_binomial import BetaBinomial
from ppl_jax.distributions.binomial import Binomial
from ppl_jax.distributions.categorical import Categorical
from ppl_jax.distributions.cauchy import Cauchy, HalfCauchy
from ppl_jax.distributions.delta import Delta
from ppl_jax.distributions.dirichlet import Dirichlet
from ppl_jax.distributions.factor import Factor
from ppl_jax.distributions.from_numpyro import PREFIX, family
from ppl_jax.distributions.gamma import Exponential, Gamma
from ppl_jax.distributions.geometric import Geometric
from ppl_jax.distributions.gumbel import Gumbel
from ppl_jax.distributions.half_normal import HalfNormal
from ppl_jax.distributions.hypergeometric import Hypergeometric
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


class Families(dict[str, Any]):
    """Family by name; a name that is a recipe (``numpyro.Laplace(loc,scale)``) has a family made for it."""

    def __contains__(self, name: object) -> bool:
        return super().__contains__(name) or (isinstance(name, str) and name.startswith(PREFIX))

    def __missing__(self, name: str) -> Any:
        if name in self:
            return family(name)
        raise KeyError(name)


FAMILIES = Families(
    (known.__name__, known)
    for known in (
        Normal, Uniform, Categorical, Poisson, Bernoulli, Beta, Exponential, Gamma, LogNormal, Binomial, Weibull,
        TruncatedNormal, VonMises, Mixture, MultivariateNormal, Delta, Factor, NegativeBinomial, NegativeBinomial2,
        BetaBinomial, StudentT, Cauchy, HalfCauchy, HalfNormal, Dirichlet, Laplace, Geometric, InverseGamma, Gumbel,
        Pareto, Multinomial, Hypergeometric, Logistic, ZeroInflatedPoisson,
    )
)  # fmt: skip


def count_numbers(layout: Sequence[Any]) -> int:
    """How many numbers a distribution of this layout has."""
    if layout[0] == "Mixture":
        return math.prod(layout[1]) + sum(count_numbers(component) for component in layout[2])
    return sum(math.prod(shape) for shape in layout[1:])


def is_discrete(layout: Sequence[Any]) -> bool:
    """Whether the values of a distribution of this layout are integers."""
    return is_discrete(layout[2][0]) if layout[0] == "Mixture" else FAMILIES[layout[0]].discrete


def rebuild(layout: Sequence[Any], numbers: Sequence[float]) -> Distribution:
    """The distribution of which ``layout()`` and ``numbers()`` gave these (a layout read from JSON will do)."""
    if layout[0] == "Mixture":
        position = math.prod(layout[1])
        components = []
        for component in layout[2]:
            width = count_numbers(component)
            components.append(rebuild(component, numbers[position : position + width]))
            position += width
        return Mixture(numbers[: math.prod(layout[1])], components)
    arguments, position = [], 0
    for shape in layout[1:]:
        width = math.prod(shape)
        part = numbers[position : position + width]
        arguments.append(float(part[0]) if len(shape) == 0 else np.array(part).reshape(tuple(shape)))
        position += width
    return FAMILIES[layout[0]](*arguments)
