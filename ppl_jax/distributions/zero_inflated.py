"""The zero-inflated Poisson distribution."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from scipy.special import gammaln, xlogy

from ppl_jax.distributions.base import (
    LARGEST_COUNT,
    Elementwise,
    as_parameter,
    is_tracer,
    require,
    require_probability,
)
from ppl_jax.distributions.poisson import Poisson

_BEYOND = 1e300


class ZeroInflatedPoisson(Elementwise):
    """0 with probability ``gate`` in [0, 1], else Poisson with mean ``rate`` in [0, 2**53] (which may be 0 as well)."""

    __slots__ = ("gate", "rate")
    parameters = ("gate", "rate")
    discrete = True

    def __init__(self, gate: Any, rate: Any):
        gate, rate = as_parameter(gate), as_parameter(rate)
        require_probability("ZeroInflatedPoisson", "gate", gate)
        if not is_tracer(rate):
            inside = 0.0 <= rate <= LARGEST_COUNT if type(rate) is float else (rate >= 0.0) & (rate <= LARGEST_COUNT)
            require(inside, "ZeroInflatedPoisson", "rate", rate, "in [0, 2**53]")
        self.gate, self.rate = gate, rate
        self._broadcast(gate, rate)

    @staticmethod
    def _draw(uniform: Any, gate: float, rate: float) -> int:
        return 0 if uniform() < gate else Poisson._draw(uniform, rate)

    @staticmethod
    def _log_density(value: float, gate: float, rate: float) -> float:
        if value == 0.0:
            mass = gate + (1.0 - gate) * math.exp(-rate)
            return math.log(mass) if mass > 0.0 else -rate
        if gate == 1.0:
            return -math.inf
        return math.log1p(-gate) + Poisson._log_density(value, rate)

    @staticmethod
    def _log_densities(value: np.ndarray, gate: np.ndarray, rate: np.ndarray) -> np.ndarray:
        inside = (value >= 0.0) & (value < _BEYOND) & (value == np.floor(value))
        safe = np.where(inside, value, 1.0)
        some = np.log1p(-gate) + xlogy(safe, rate) - rate - gammaln(safe + 1.0)
        mass = gate + (1.0 - gate) * np.exp(-rate)
        none = np.where(mass > 0.0, np.log(mass), -rate)
        return np.where(inside, np.where(safe == 0.0, none, some), -np.inf)

    def to_numpyro(self) -> Any:
        from ppl_jax.distributions import count_twins

        return count_twins.ZeroInflatedPoisson(self.gate, self.rate)

    @property
    def mean(self) -> Any:
        return (1.0 - self.gate) * self.rate

    @property
    def variance(self) -> Any:
        return (1.0 - self.gate) * self.rate * (1.0 + self.gate * self.rate)

    @property
    def support(self) -> tuple[Any, Any]:
        return 0, math.inf
