"""Programs that draw from every family, for the tests of proposals."""

import numpy as np

import ppl_jax as ppl
import ppl_jax.distributions as dist

FAMILIES = {
    "Normal": dist.Normal(-3.0, 0.2),
    "Uniform": dist.Uniform(2.0, 7.0),
    "Beta": dist.Beta(2.0, 3.0),
    "TruncatedNormal": dist.TruncatedNormal(0.5, 1.0, 0.0, np.inf),
    "FarTruncatedNormal": dist.TruncatedNormal(-6.0, 1.0, 0.0, 3.0),
    "Exponential": dist.Exponential(4.0),
    "Gamma": dist.Gamma(3.0, 0.5),
    "LogNormal": dist.LogNormal(1.0, 0.7),
    "Weibull": dist.Weibull(2.0, 1.5),
    "VonMises": dist.VonMises(2.5, 3.0),
    "Mixture": dist.Mixture([0.3, 0.7], [dist.Normal(-2.0, 0.5), dist.Normal(3.0, 1.0)]),
    "Poisson": dist.Poisson(6.5),
    "Binomial": dist.Binomial(9, 0.3),
    "Bernoulli": dist.Bernoulli(0.2),
    "Categorical": dist.Categorical([0.2, 0.5, 0.0, 0.3]),
}

VECTORS = {
    "normals": dist.Normal(np.array([0.0, 5.0, -2.0]), np.array([1.0, 0.1, 3.0])),
    "grid": dist.Uniform(np.zeros((2, 2)), np.array([1.0, 4.0])),
    "joint": dist.MultivariateNormal(np.array([1.0, -1.0]), np.array([[2.0, 0.0], [1.2, 0.5]])),
    "counts": dist.Poisson(np.array([2.0, 30.0])),
    "choices": dist.Categorical(np.array([[0.1, 0.9], [0.6, 0.4]])),
}


#: The families that numpyro's users know.
MORE = {
    "NegativeBinomial": dist.NegativeBinomial(3.0, 0.4),
    "NegativeBinomial2": dist.NegativeBinomial2(6.0, 1.5),
    "BetaBinomial": dist.BetaBinomial(2.0, 3.0, 12),
    "Geometric": dist.Geometric(0.3),
    "Hypergeometric": dist.Hypergeometric(40, 15, 12),
    "ZeroInflatedPoisson": dist.ZeroInflatedPoisson(0.3, 4.0),
    "StudentT": dist.StudentT(2.0, 5.0, 0.3),
    "Cauchy": dist.Cauchy(-2.0, 3.0),
    "HalfCauchy": dist.HalfCauchy(2.0),
    "HalfNormal": dist.HalfNormal(2.0),
    "Laplace": dist.Laplace(1.0, 2.0),
    "Logistic": dist.Logistic(1.0, 2.0),
    "Gumbel": dist.Gumbel(1.0, 2.0),
    "InverseGamma": dist.InverseGamma(2.5, 3.0),
    "Pareto": dist.Pareto(2.0, 3.0),
}
SHARES = {
    "shares": dist.Dirichlet([1.5, 0.7, 3.0]),
    "two": dist.Dirichlet([2.0, 5.0]),
    "votes": dist.Multinomial(20, [0.2, 0.0, 0.5, 0.3]),
}


def more():
    """One draw of each; the data know nothing of them."""
    for name, distribution in {**MORE, **SHARES}.items():
        ppl.sample(distribution, name=name)
    ppl.observe(dist.Normal(0.0, 1.0), name="y")


def zoo():
    """One draw of each, in order; the data is their sum."""
    total = 0.0
    for name, distribution in {**FAMILIES, **VECTORS}.items():
        total += np.sum(ppl.sample(distribution, name=name))
    ppl.observe(dist.Normal(total, 5.0), name="sum")
    return total
