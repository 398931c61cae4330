"""The Gumbel distribution of largest values."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ppl_jax.distributions.base import Elementwise, as_parameter, require_finite, require_positive

_EULER = 0.5772156649015329
_STEEPEST = -700.0  # standardised values below have no density: exp(700) is the whole exponent


class Gumbel(Elementwise):
    """Gumbel (of maxima: its long tail is the upper one) with mode ``loc`` and positive ``scale``."""

    __slots__ = ("loc", "scale")
    parameters = ("loc", "scale")

    def __init__(self, loc: Any = 0.0, scale: Any = 1.0):
        loc, scale = as_parameter(loc), as_parameter(scale)
        require_finite("Gumbel", "loc", loc)
        require_positive("Gumbel", "scale", scale)
        self.loc, self.scale = loc, scale
        self._broadcast(loc, scale)

    @staticmethod
    def _draw(uniform: Any, loc: float, scale: float) -> float:
        return loc - scale * math.log(-math.log(uniform()))

    @staticmethod
    def _log_density(value: float, loc: float, scale: float) -> float:
        z = (value - loc) / scale
        return -z - math.exp(-z) - math.log(scale) if z > _STEEPEST else -math.inf

    @staticmethod
    def _log_densities(value: np.ndarray, loc: np.ndarray, scale: np.ndarray) -> np.ndarray:
        z = (value - loc) / scale
        return np.where(z > _STEEPEST, -z - np.exp(-z) - np.log(scale), -np.inf)

    def inflated(self, factor: float) -> Gumbel:
        return Gumbel(self.loc, self.scale * factor)

    def to_numpyro(self) -> Any:
        from ppl_jax.distributions import tail_twins

        return tail_twins.Gumbel(self.loc, self.scale)

    @property
    def mean(self) -> Any:
        return self.loc + _EULER * self.scale

    @property
    def variance(self) -> Any:
        return np.broadcast_to(np.square(self.scale) * (math.pi**2 / 6.0), self.shape)[()]

    @property
    def support(self) -> tuple[Any, Any]:
        return -math.inf, math.inf
