"""Student's t distribution."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ppl_jax.distributions.base import LARGEST, SMALLEST, Elementwise, as_parameter, require_finite, require_positive
from ppl_jax.distributions.cauchy import log1p_square, log1p_squares
from ppl_jax.distributions.gamma import draw_standard_gamma
from ppl_jax.distributions.normal import standard_normal_quantile
from ppl_jax.distributions.rising import log_rising, log_rising_of_arrays

_LOG_PI = math.log(math.pi)


class StudentT(Elementwise):
    """Student's t with ``df`` degrees of freedom (positive), around ``loc``, stretched by ``scale`` (positive)."""

    __slots__ = ("df", "loc", "scale")
    parameters = ("df", "loc", "scale")

    def __init__(self, df: Any, loc: Any = 0.0, scale: Any = 1.0):
        df, loc, scale = as_parameter(df), as_parameter(loc), as_parameter(scale)
        require_positive("StudentT", "df", df)
        require_finite("StudentT", "loc", loc)
        require_positive("StudentT", "scale", scale)
        self.df, self.loc, self.scale = df, loc, scale
        self._broadcast(df, loc, scale)

    @staticmethod
    def _draw(uniform: Any, df: float, loc: float, scale: float) -> float:
        z = standard_normal_quantile(uniform())
        half = max(0.5 * df, SMALLEST)
        mean_square = draw_standard_gamma(uniform, half) / half
        value = loc + scale * (z / math.sqrt(max(mean_square, SMALLEST)))
        return min(max(value, -LARGEST), LARGEST)

    @staticmethod
    def _log_density(value: float, df: float, loc: float, scale: float) -> float:
        if not -math.inf < value < math.inf:
            return -math.inf
        norm = log_rising(0.5 * df, 0.5) - 0.5 * (_LOG_PI + math.log(df)) - math.log(scale)
        return norm - 0.5 * (df + 1.0) * log1p_square((value - loc) / scale / math.sqrt(df))

    @staticmethod
    def _log_densities(value: np.ndarray, df: np.ndarray, loc: np.ndarray, scale: np.ndarray) -> np.ndarray:
        norm = log_rising_of_arrays(0.5 * df, 0.5) - 0.5 * (_LOG_PI + np.log(df)) - np.log(scale)
        inside = norm - 0.5 * (df + 1.0) * log1p_squares((value - loc) / scale / np.sqrt(df))
        return np.where(np.isfinite(value), inside, -np.inf)

    def inflated(self, factor: float) -> StudentT:
        return StudentT(self.df, self.loc, self.scale * factor)

    def to_numpyro(self) -> Any:
        from ppl_jax.distributions import tail_twins

        return tail_twins.StudentT(self.df, self.loc, self.scale)

    @property
    def mean(self) -> Any:
        """NaN where there is none (df <= 1)."""
        return np.broadcast_to(np.where(np.greater(self.df, 1.0), self.loc, np.nan), self.shape)[()]

    @property
    def variance(self) -> Any:
        """Infinite where df <= 2, NaN where there is none (df <= 1)."""
        df = np.asarray(self.df)
        finite = np.square(self.scale) * (df / np.where(df > 2.0, df - 2.0, 1.0))
        return np.broadcast_to(np.where(df > 2.0, finite, np.where(df > 1.0, np.inf, np.nan)), self.shape)[()]

    @property
    def support(self) -> tuple[Any, Any]:
        return -math.inf, math.inf
