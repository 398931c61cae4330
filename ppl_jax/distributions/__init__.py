"""Probability distributions with a fast host side and a numpyro twin; one file per family."""

from ppl_jax.distributions.base import Distribution
from ppl_jax.distributions.bernoulli import Bernoulli
from ppl_jax.distributions.beta import Beta
from ppl_jax.distributions.binomial import Binomial
from ppl_jax.distributions.categorical import Categorical
from ppl_jax.distributions.delta import Delta
from ppl_jax.distributions.factor import Factor
from ppl_jax.distributions.gamma import Exponential, Gamma
from ppl_jax.distributions.lognormal import LogNormal
from ppl_jax.distributions.mixture import Mixture
from ppl_jax.distributions.multivariate_normal import MultivariateNormal
from ppl_jax.distributions.normal import Normal
from ppl_jax.distributions.poisson import Poisson
from ppl_jax.distributions.truncated_normal import TruncatedNormal
from ppl_jax.distributions.uniform import Uniform
from ppl_jax.distributions.von_mises import VonMises
from ppl_jax.distributions.weibull import Weibull

__all__ = [
    "Bernoulli",
    "Beta",
    "Binomial",
    "Categorical",
    "Delta",
    "Distribution",
    "Exponential",
    "Factor",
    "Gamma",
    "LogNormal",
    "Mixture",
    "MultivariateNormal",
    "Normal",
    "Poisson",
    "TruncatedNormal",
    "Uniform",
    "VonMises",
    "Weibull",
]
