"""Probability distributions with a fast host side and a numpyro twin; one file per family."""

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

__all__ = [
    "Bernoulli",
    "Beta",
    "BetaBinomial",
    "Binomial",
    "Categorical",
    "Cauchy",
    "Delta",
    "Dirichlet",
    "Distribution",
    "Exponential",
    "Factor",
    "Gamma",
    "Geometric",
    "Gumbel",
    "HalfCauchy",
    "HalfNormal",
    "Hypergeometric",
    "InverseGamma",
    "Laplace",
    "LogNormal",
    "Logistic",
    "Mixture",
    "Multinomial",
    "MultivariateNormal",
    "NegativeBinomial",
    "NegativeBinomial2",
    "Normal",
    "Pareto",
    "Poisson",
    "StudentT",
    "TruncatedNormal",
    "Uniform",
    "VonMises",
    "Weibull",
    "ZeroInflatedPoisson",
]
