"""The Python twins of the simulators in tests/ppx/c/models.c: the same statements, at the same addresses."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

import ppl_jax as ppl
import ppl_jax.distributions as dist
import ppx


def gum() -> Any:
    mu = ppl.sample(dist.Normal(1.0, math.sqrt(5.0)), "mu", address="gum:1")
    ppl.observe(dist.Normal(mu, math.sqrt(2.0)), name="obs0", address="gum:2")
    ppl.observe(dist.Normal(mu, math.sqrt(2.0)), name="obs1", address="gum:2")
    ppl.tag(mu * mu, "square", address="gum:3")
    return mu


def branching() -> Any:
    total = 0.0
    if ppl.sample(dist.Bernoulli(0.4), "kind", address="branching:1") == 1:
        for _ in range(ppl.sample(dist.Poisson(3.0), "count", address="branching:2")):
            total += ppl.sample(dist.Gamma(2.0, 1.0 + total), address="branching:3")
    else:
        total = -ppl.sample(dist.Exponential(0.5), "noise", address="branching:4", control=False)
    ppl.observe(dist.Normal(total, 1.0), 0.25, "given", address="branching:5")
    ppl.observe(dist.Normal(total, 2.0), name="data", address="branching:6")
    ppl.factor(-0.5 * total * total, "penalty", address="branching:7")
    return total


def families() -> Any:
    drawn = [
        ppl.sample(made, address=f"families:{ppx.constants.FAMILY_NUMBERS[made.family]}")
        for made in (
            dist.Normal(0.5, 1.5),
            dist.Uniform(-1.0, 3.0),
            dist.Poisson(4.0),
            dist.Bernoulli(0.3),
            dist.Beta(2.0, 0.5),
            dist.Exponential(2.0),
            dist.Gamma(0.5, 2.0),
            dist.LogNormal(0.0, 1.0),
            dist.Binomial(10.0, 0.7),
            dist.Weibull(2.0, 1.5),
            dist.TruncatedNormal(0.0, 1.0, 1.0, 2.0),
            dist.VonMises(1.0, 2.0),
            dist.Delta(1.25),
        )
    ]
    total = 0.0
    for value in drawn:
        total += value
    return total


def more_families() -> Any:
    drawn = [
        ppl.sample(made, address=f"families:{ppx.constants.FAMILY_NUMBERS[made.family]}")
        for made in (
            dist.NegativeBinomial(3.0, 0.4),
            dist.NegativeBinomial2(4.0, 0.5),
            dist.BetaBinomial(2.0, 3.0, 10.0),
            dist.Geometric(0.25),
            dist.Hypergeometric(20.0, 8.0, 6.0),
            dist.ZeroInflatedPoisson(0.25, 3.0),
            dist.StudentT(3.0, 1.0, 2.0),
            dist.Cauchy(1.0, 2.0),
            dist.HalfCauchy(2.0),
            dist.HalfNormal(2.0),
            dist.Laplace(1.0, 2.0),
            dist.Logistic(1.0, 2.0),
            dist.Gumbel(1.0, 2.0),
            dist.InverseGamma(3.0, 2.0),
            dist.Pareto(1.0, 2.5),
        )
    ]
    total = 0.0
    for value in drawn:
        total += value
    return total


def arrays() -> Any:
    grid = ppl.sample(dist.Normal([[-1.0], [1.0]], [0.5, 1.0, 2.0]), "grid", address="arrays:1")
    choices = ppl.sample(dist.Categorical([[0.5, 0.25, 0.25], [0.0, 0.5, 0.5]]), "choices", address="arrays:2")
    components = [dist.Normal(float(grid[1, 0]), 1.0), dist.Gamma(2.0, 3.0)]
    mixed = ppl.sample(dist.Mixture([0.5, 0.5], components), "mixed", address="arrays:3")
    vector = np.array([float(choices[0] + choices[1]), mixed])
    ppl.observe(dist.MultivariateNormal([-1.0, 1.0], [[1.0, 0.0], [0.5, 2.0]]), name="joint", address="arrays:4")
    ppl.tag(vector, "sum", address="arrays:5")
    return vector


def scopes() -> Any:
    with ppx.rejection_scope("outer", "scopes:1") as outer:
        while True:
            x = ppl.sample(dist.Normal(0.0, 1.0), "x", address="scopes:3")
            with ppx.rejection_scope("inner", "scopes:2") as inner:
                while (y := ppl.sample(dist.Normal(x, 1.0), "y", address="scopes:4")) <= x:
                    inner.reject()
            if y - x > 0.5:
                break
            outer.reject()
    z = ppl.sample(dist.Normal(0.0, 1.0), "y", address="scopes:4")
    ppl.observe(dist.Normal(x + y + z, 1.0), name="data", address="scopes:5")
    return x


def long() -> Any:
    x = 0.0
    for i in range(1000):
        x = ppl.sample(dist.Normal(x, 1.0), address=f"long:{i}")
    return x


def silent() -> None:
    return None


def empty() -> Any:
    return ppl.tag(np.zeros((0, 3)), "nothing", address="empty:1")


def chained() -> Any:
    vector = ppl.sample(dist.Normal([0.0, 10.0, 20.0], 1e-3), address="chained:1")
    matrix = ppl.sample(dist.Normal(vector, [[1e-3], [2e-3]]), address="chained:2")
    matrix = ppl.sample(dist.Normal(matrix, [[1e-3], [2e-3]]), address="chained:3")
    return ppl.observe(dist.Normal(matrix, [[1e-3], [2e-3]]), matrix, address="chained:4")


ALL = (gum, branching, families, more_families, arrays, scopes, long, silent, empty, chained)
MODELS = {model.__name__: model for model in ALL}
