"""What scipy says of each family, over parameters that reach every regime of its host side.

``CASES`` holds (family, parameters); ``twin`` gives the frozen scipy distribution, ``probes`` the values at which to
compare: bulk, both tails, the bounds of the support and beyond.
"""

import math
import warnings
from collections.abc import Callable
from typing import Any

import mpmath as mp
import numpy as np
from scipy import stats

from ppl_jax import distributions as d

INF = float("inf")

PARAMETERS: dict[str, list[tuple]] = {
    "Normal": [(0.0, 1.0), (-3.5, 1e-3), (1e6, 20.0), (2.0, 1e8)],
    "Uniform": [(0.0, 1.0), (-5.0, -4.5), (-1e10, 3e10)],
    "Poisson": [(0.0,), (1e-9,), (0.3,), (4.0,), (9.99,), (10.0,), (37.5,), (1e4,)],
    "Bernoulli": [(0.0,), (1e-12,), (0.3,), (0.5,), (1.0,)],
    "Beta": [(1.0, 1.0), (2.0, 5.0), (0.5, 0.5), (1e-3, 2e-3), (0.2, 30.0), (300.0, 4000.0), (1.0, 3.0), (3.0, 1.0)],
    "Exponential": [(1.0,), (1e-4,), (3e5,)],
    "Gamma": [(1.0, 1.0), (0.5, 2.0), (2.5, 0.1), (1e-3, 1.0), (400.0, 7.0), (1.0, 50.0)],
    "LogNormal": [(0.0, 1.0), (-3.0, 0.01), (5.0, 4.0)],
    "Binomial": [(0.0, 0.5), (1.0, 0.3), (10.0, 0.0), (10.0, 1.0), (12.0, 0.4), (100.0, 0.03), (100.0, 0.4),
                 (100.0, 0.97), (1000.0, 0.7), (100000.0, 1e-6)],
    "Weibull": [(1.0, 1.0), (2.0, 0.3), (0.1, 5.0), (3.0, 1.5), (1.0, 200.0)],
    "TruncatedNormal": [(0.0, 1.0, -1.0, 2.0), (3.0, 2.0, -INF, 2.0), (0.0, 1.0, 0.0, INF), (0.0, 1.0, 5.0, 6.0),
                        (0.0, 1.0, -7.5, -7.0), (0.0, 1.0, 9.0, INF), (0.0, 1.0, -INF, -20.0), (1.0, 0.1, 4.0, 4.5),
                        (0.0, 1.0, -12.0, -11.99), (0.0, 1.0, -INF, INF), (0.0, 1.0, 2.0, 2.001)],
    "NegativeBinomial": [(1.0, 0.5), (0.01, 0.3), (3.5, 0.0), (5.0, 0.99), (40.0, 0.2), (2e3, 1e-3)],
    "NegativeBinomial2": [(0.0, 1.0), (3.0, 0.1), (4.0, 4.0), (1e-9, 2.0), (250.0, 0.5), (60.0, 16.0), (1e3, 1e3)],
    "BetaBinomial": [(1.0, 1.0, 10.0), (2.0, 0.5, 30.0), (0.1, 0.2, 12.0), (5.0, 5.0, 0.0), (300.0, 700.0, 100.0),
                     (15.9, 16.1, 1000.0)],
    "Geometric": [(0.3,), (1.0,), (1e-6,), (0.999,)],
    "Hypergeometric": [(50.0, 20.0, 10.0), (10.0, 7.0, 8.0), (5.0, 2.0, 0.0), (5.0, 5.0, 3.0), (5.0, 0.0, 3.0),
                       (1000.0, 3.0, 400.0), (1000.0, 600.0, 700.0), (1e5, 3e4, 2e3)],
    "StudentT": [(3.0, 0.0, 1.0), (1.0, 2.0, 0.1), (0.3, 0.0, 1.0), (1.5, -1e3, 20.0), (31.9, 0.0, 1.0),
                 (1e6, 1.0, 2.0)],
    "Cauchy": [(0.0, 1.0), (-5.0, 1e-3), (1e6, 1e4)],
    "HalfCauchy": [(1.0,), (1e-4,), (3e5,)],
    "HalfNormal": [(1.0,), (1e-4,), (3e5,)],
    "Laplace": [(0.0, 1.0), (-5.0, 1e-3), (1e6, 1e4)],
    "Logistic": [(0.0, 1.0), (-5.0, 1e-3), (1e6, 1e4)],
    "Gumbel": [(0.0, 1.0), (-5.0, 1e-3), (1e6, 1e4)],
    "InverseGamma": [(1.0, 1.0), (2.5, 0.1), (0.5, 3.0), (400.0, 7.0)],
    "Pareto": [(1.0, 3.0), (0.1, 0.5), (200.0, 1.5), (2.0, 80.0)],
    "VonMises": [(0.0, 1.0), (1.0, 1e-6), (-3.0, 0.3), (3.1, 4.0), (0.5, 50.0), (-1.0, 1e4), (0.0, 1e8)],
}  # fmt: skip

CASES = [(getattr(d, family), parameters) for family, rows in PARAMETERS.items() for parameters in rows]
NAMES = [f"{family.__name__}{parameters}" for family, parameters in CASES]

SUPPORTS: dict[str, Callable[..., tuple[float, float]]] = {
    "Uniform": lambda low, high: (low, high),
    "Poisson": lambda rate: (0.0, INF),
    "Bernoulli": lambda probs: (0.0, 1.0),
    "Beta": lambda a, b: (0.0, 1.0),
    "Exponential": lambda rate: (0.0, INF),
    "Gamma": lambda concentration, rate: (0.0, INF),
    "LogNormal": lambda loc, scale: (0.0, INF),
    "Binomial": lambda total_count, probs: (0.0, total_count),
    "Weibull": lambda scale, concentration: (0.0, INF),
    "TruncatedNormal": lambda loc, scale, low, high: (low, high),
    "VonMises": lambda loc, concentration: (-math.pi, math.pi),
    "NegativeBinomial": lambda total_count, probs: (0.0, INF),
    "NegativeBinomial2": lambda mean, concentration: (0.0, INF),
    "BetaBinomial": lambda a, b, total_count: (0.0, total_count),
    "Geometric": lambda probs: (0.0, INF),
    "Hypergeometric": lambda population, successes, draws: (
        max(0.0, draws - population + successes), min(successes, draws)
    ),
    "HalfCauchy": lambda scale: (0.0, INF),
    "HalfNormal": lambda scale: (0.0, INF),
    "InverseGamma": lambda concentration, rate: (0.0, INF),
    "Pareto": lambda scale, alpha: (scale, INF),
}  # fmt: skip

#: How many values every case is compared at; a fixed number, so that JAX compiles once a family.
NUM_PROBES = 48
_LEVELS = np.array([1e-300, 1e-12, 1e-6, 1e-3, 0.05, 0.2, 0.5, 0.7, 0.9, 0.99, 1 - 1e-5, 1 - 1e-12])


def twin(family: str, parameters: tuple) -> Any:
    """The frozen scipy distribution of the same law."""
    if family == "TruncatedNormal":
        loc, scale, low, high = parameters
        return stats.truncnorm((low - loc) / scale, (high - loc) / scale, loc=loc, scale=scale)
    frozen = {
        "Normal": lambda loc, scale: stats.norm(loc, scale),
        "Uniform": lambda low, high: stats.uniform(low, high - low),
        "Poisson": stats.poisson,
        "Bernoulli": stats.bernoulli,
        "Beta": stats.beta,
        "Exponential": lambda rate: stats.expon(scale=1.0 / rate),
        "Gamma": lambda concentration, rate: stats.gamma(concentration, scale=1.0 / rate),
        "LogNormal": lambda loc, scale: stats.lognorm(scale, scale=np.exp(loc)),
        "Binomial": stats.binom,
        "Weibull": lambda scale, concentration: stats.weibull_min(concentration, scale=scale),
        "VonMises": lambda loc, concentration: stats.vonmises(concentration, loc=loc),
        "NegativeBinomial": lambda total_count, probs: stats.nbinom(total_count, 1.0 - probs),
        "NegativeBinomial2": lambda mean, concentration: stats.nbinom(
            concentration, concentration / (concentration + mean)
        ),
        "BetaBinomial": lambda a, b, total_count: stats.betabinom(total_count, a, b),
        "Geometric": lambda probs: stats.geom(probs, loc=-1),
        "Hypergeometric": stats.hypergeom,
        "StudentT": stats.t,
        "Cauchy": stats.cauchy,
        "HalfCauchy": lambda scale: stats.halfcauchy(scale=scale),
        "HalfNormal": lambda scale: stats.halfnorm(scale=scale),
        "Laplace": stats.laplace,
        "Logistic": stats.logistic,
        "Gumbel": stats.gumbel_r,
        "InverseGamma": lambda concentration, rate: stats.invgamma(concentration, scale=rate),
        "Pareto": lambda scale, alpha: stats.pareto(alpha, scale=scale),
    }
    return frozen[family](*parameters)


def _student_t(x: mp.mpf, df: float, loc: float, scale: float) -> mp.mpf:
    half = mp.mpf(df) / 2
    norm = mp.loggamma(half + 0.5) - mp.loggamma(half) - mp.log(mp.pi * df) / 2 - mp.log(scale)
    return norm - (half + 0.5) * mp.log1p(((x - loc) / scale) ** 2 / df)


#: Densities in mpmath, of families for which scipy has none far out: it takes the logarithm of a density that is 0.
EXACT: dict[str, Callable[..., Any]] = {
    "StudentT": _student_t,
    "HalfCauchy": lambda x, scale: mp.log(2 / mp.pi / scale) - mp.log1p((x / scale) ** 2),
    "Laplace": lambda x, loc, scale: -abs(x - loc) / scale - mp.log(2 * scale),
    "Logistic": lambda x, loc, scale: (
        -abs(x - loc) / scale - 2 * mp.log1p(mp.exp(-abs(x - loc) / scale)) - mp.log(scale)
    ),
    "Gumbel": lambda x, loc, scale: -(x - loc) / scale - mp.exp(-max((x - loc) / scale, mp.mpf(-1e6))) - mp.log(scale),
    "Pareto": lambda x, scale, alpha: mp.log(alpha) + alpha * mp.log(scale) - (alpha + 1) * mp.log(x),
}


def log_prob(family: str, parameters: tuple, values: np.ndarray) -> np.ndarray:
    """scipy's log density or mass, with scipy's own exceptions to the rule "-inf outside the support" undone."""
    low, high = SUPPORTS.get(family, lambda *_: (-INF, INF))(*parameters)
    inside = (values >= low) & (values <= high) & np.isfinite(values)
    if family in EXACT:
        exact, pairs = EXACT[family], zip(values.tolist(), inside, strict=True)
        numbers = [exact(mp.mpf(value), *parameters) if within else -INF for value, within in pairs]
        return np.array([float(number) if number > -1.7e308 else -INF for number in numbers])
    if getattr(d, family).discrete:
        inside &= values == np.floor(values)
    law = twin(family, parameters)
    with np.errstate(all="ignore"):
        if hasattr(law.dist, "logpmf"):
            expected = law.logpmf(values)
        else:
            expected = law.logpdf(values)
    # scipy repeats the von Mises density on the whole line, gives NaN at infinite values of some families, and misses
    # values that its standardisation rounds into the support.
    return np.where(inside, expected, -np.inf)


def probes(family: Any, parameters: tuple) -> np.ndarray:
    """Values over the whole support, its bounds, and beyond."""
    law = twin(family.__name__, parameters)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some levels are out of reach of scipy's root finding
        quantiles = law.ppf(_LEVELS)
    low, high = SUPPORTS.get(family.__name__, lambda *_: (-INF, INF))(*parameters)
    bounds = [low, high, np.nextafter(low, -INF), np.nextafter(high, INF), np.nextafter(low, INF)]
    beyond = [-INF, INF, np.nan, -1.0, 0.0, -0.0, 0.5, 1.0, 2.0, 1e3, 1e-300, -1e250, 1e250]
    if family.discrete:
        counts = quantiles[np.isfinite(quantiles)]
        values = np.concatenate([counts, counts + 0.5, counts + 1.0, bounds, beyond])
    else:
        values = np.concatenate([quantiles, bounds, beyond])
    values = np.resize(values, NUM_PROBES)
    # scipy loses its digits at subnormal values, and XLA reads them as 0; the largest may overflow.
    values = np.where(np.isfinite(values), np.clip(values, -1e307, 1e307), values)
    return np.where((values != 0.0) & (np.abs(values) < 1e-307), np.copysign(1e-307, values), values)


def agree(found: Any, expected: Any, tolerance: float = 1e-6) -> bool:
    """Within ``tolerance``, relative to max(1, |expected|), with infinities equal."""
    found, expected = np.asarray(found), np.asarray(expected)
    with np.errstate(invalid="ignore"):
        near = np.abs(found - expected) <= tolerance * np.maximum(1.0, np.abs(expected))
    return bool(np.all((found == expected) | (near & np.isfinite(expected))))
