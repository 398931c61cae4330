"""log of the rising factorial, Gamma(x + k) / Gamma(x): what densities of counts are made of, without cancellation.

As a difference of two log-gammas it loses all its digits where x is large beside k: at x = 1e12, a negative binomial
that is all but a Poisson would be wrong by 1e-3 in float64, and at x = 1e4 by 1e-2 in float32. From 16 on it is the
difference of two Stirling series, term by term.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from scipy.special import gammaln

FROM = 16.0


def stirling(x: Any) -> Any:
    """log Gamma(x) - (x - 1/2) log x + x - log(2 pi) / 2, for x >= 16, to 2e-14."""
    inverse = 1.0 / x
    square = inverse * inverse
    return inverse * (1.0 / 12.0 - square * (1.0 / 360.0 - square * (1.0 / 1260.0 - square / 1680.0)))


def log_rising(x: float, k: float) -> float:
    """log(Gamma(x + k) / Gamma(x)) of x > 0 and k >= 0."""
    if x < FROM:
        return math.lgamma(x + k) - math.lgamma(x)
    return (x - 0.5) * math.log1p(k / x) + k * math.log(x + k) - k + stirling(x + k) - stirling(x)


def log_rising_of_arrays(x: Any, k: Any, xp: Any = np, gammaln: Any = gammaln) -> Any:
    """``log_rising``, elementwise; ``xp`` and ``gammaln`` are numpy's and scipy's, or JAX's."""
    large = xp.maximum(x, FROM)
    small = xp.minimum(x, FROM)
    series = (large - 0.5) * xp.log1p(k / large) + k * xp.log(large + k) - k + stirling(large + k) - stirling(large)
    return xp.where(x < FROM, gammaln(small + k) - gammaln(small), series)
