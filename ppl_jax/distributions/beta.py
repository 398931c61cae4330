"""The beta distribution."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from scipy.special import betaln, xlog1py, xlogy

from ppl_jax.distributions.base import LARGEST, SMALLEST, Elementwise, as_parameter, require_positive
from ppl_jax.distributions.gamma import draw_standard_gamma

_BELOW_ONE = 1.0 - 2.0**-53


class Beta(Elementwise):
    """Beta on [0, 1] with positive ``concentration1`` (of 1) and ``concentration0`` (of 0)."""

    __slots__ = ("concentration0", "concentration1")
    parameters = ("concentration1", "concentration0")

    def __init__(self, concentration1: Any, concentration0: Any):
        concentration1, concentration0 = as_parameter(concentration1), as_parameter(concentration0)
        require_positive("Beta", "concentration1", concentration1)
        require_positive("Beta", "concentration0", concentration0)
        self.concentration1, self.concentration0 = concentration1, concentration0
        self._broadcast(concentration1, concentration0)

    @staticmethod
    def _draw(uniform: Any, a: float, b: float) -> float:
        if a < 1.0 and b < 1.0:
            value = _draw_johnk(uniform, a, b)
        else:
            x, y = draw_standard_gamma(uniform, a), draw_standard_gamma(uniform, b)
            value = x / (x + y)
        return value if SMALLEST < value < _BELOW_ONE else min(max(value, SMALLEST), _BELOW_ONE)

    @staticmethod
    def _log_density(value: float, a: float, b: float) -> float:
        if not 0.0 <= value <= 1.0:
            return -math.inf
        if a + b < 1e6:
            norm = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b)
        else:  # the difference of the large logarithms would lose what betaln keeps
            norm = -float(betaln(a, b))
        left = _edge(a) if value == 0.0 else (a - 1.0) * math.log(value)
        right = _edge(b) if value == 1.0 else (b - 1.0) * math.log1p(-value)
        return norm + left + right

    @staticmethod
    def _log_densities(value: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        inside = xlogy(a - 1.0, value) + xlog1py(b - 1.0, -value) - betaln(a, b)
        return np.where((value >= 0.0) & (value <= 1.0), inside, -np.inf)

    def to_numpyro(self) -> Any:
        from ppl_jax.distributions import edge_twins

        return edge_twins.Beta(self.concentration1, self.concentration0)

    @property
    def mean(self) -> Any:
        return self.concentration1 / (self.concentration1 + self.concentration0)

    @property
    def variance(self) -> Any:
        total = self.concentration1 + self.concentration0  # its square, or their product, may overflow or be 0
        return (self.concentration1 / total) * (self.concentration0 / total) / (total + 1.0)

    @property
    def support(self) -> tuple[Any, Any]:
        return 0.0, 1.0


def _edge(concentration: float) -> float:
    """(concentration - 1) * log(0), with 0 * log(0) = 0."""
    return 0.0 if concentration == 1.0 else math.copysign(math.inf, 1.0 - concentration)


def _draw_johnk(uniform: Any, a: float, b: float) -> float:
    """Jöhnk (Metrika 8, 1964), in logarithms, because u**(1/a) underflows where both concentrations are small."""
    while True:
        x = max(math.log(uniform()) / a, -LARGEST)
        y = max(math.log(uniform()) / b, -LARGEST)
        if math.exp(x) + math.exp(y) <= 1.0:
            if x > y:
                return 1.0 / (1.0 + math.exp(y - x))
            ratio = math.exp(x - y)
            return ratio / (1.0 + ratio)
