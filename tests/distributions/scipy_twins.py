"""What scipy says of each family, over parameters that reach every regime of its host side.

``CASES`` holds (family, parameters); ``twin`` gives the frozen scipy distribution, ``probes`` the values at which to
compare: bulk, both tails, the bounds of the support and beyond.
"""

import math
import warnings
from collections.abc import Callable
from typing import Any

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
}

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
    }
    return frozen[family](*parameters)


def log_prob(family: str, parameters: tuple, values: np.ndarray) -> np.ndarray:
    """scipy's log density or mass, with scipy's own exceptions to the rule "-inf outside the support" undone."""
    law = twin(family, parameters)
    with np.errstate(all="ignore"):
        if hasattr(law.dist, "logpmf"):
            expected = law.logpmf(values)
        else:
            expected = law.logpdf(values)
    # scipy repeats the von Mises density on the whole line, gives NaN at infinite values of some families, and misses
    # values that its standardisation rounds into the support.
    low, high = SUPPORTS.get(family, lambda *_: (-INF, INF))(*parameters)
    return np.where((values >= low) & (values <= high) & np.isfinite(values), expected, -np.inf)


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
    # scipy loses its digits at subnormal values, and XLA reads them as 0.
    return np.where((values != 0.0) & (np.abs(values) < 1e-307), np.copysign(1e-307, values), values)


def agree(found: Any, expected: Any, tolerance: float = 1e-6) -> bool:
    """Within ``tolerance``, relative to max(1, |expected|), with infinities equal."""
    found, expected = np.asarray(found), np.asarray(expected)
    with np.errstate(invalid="ignore"):
        near = np.abs(found - expected) <= tolerance * np.maximum(1.0, np.abs(expected))
    return bool(np.all((found == expected) | (near & np.isfinite(expected))))
