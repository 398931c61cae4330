"""The hypergeometric distribution: sampling without replacement."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ppl_jax.distributions.base import Elementwise, as_parameter, is_tracer, require
from ppl_jax.distributions.counting import draw_log_concave, require_count
from ppl_jax.distributions.deviance import log_binomial_mass, log_binomial_masses
from ppl_jax.distributions.poisson import log_factorial

_LARGEST = 2.0**31


class Hypergeometric(Elementwise):
    """Marked ones among ``draws`` taken without putting back from ``population``, ``successes`` of which are marked.

    All three are integers, at most 2**31; ``successes`` and ``draws`` do not exceed ``population``.
    """

    __slots__ = ("draws", "population", "successes")
    parameters = ("population", "successes", "draws")
    discrete = True

    def __init__(self, population: Any, successes: Any, draws: Any):
        population, successes, draws = as_parameter(population), as_parameter(successes), as_parameter(draws)
        require_count("Hypergeometric", "population", population, _LARGEST, "2**31")
        require_count("Hypergeometric", "successes", successes, _LARGEST, "2**31")
        require_count("Hypergeometric", "draws", draws, _LARGEST, "2**31")
        self.population, self.successes, self.draws = population, successes, draws
        self._broadcast(population, successes, draws)
        for name, part in (("successes", successes), ("draws", draws)):
            if not (is_tracer(part) or is_tracer(population)):
                require(part <= population, "Hypergeometric", name, part, "at most 'population'")

    @staticmethod
    def _draw(uniform: Any, population: float, successes: float, draws: float) -> int:
        rest = population - successes
        low, high = max(0.0, draws - rest), min(successes, draws)
        if low == high:
            return int(low)
        if draws * (successes / population) - low < 10.0:
            return _by_inversion(uniform(), population, successes, draws, low, high)
        mode = min(max(float(math.floor((draws + 1.0) * (successes + 1.0) / (population + 2.0))), low), high)

        at_mode = _log_weight(mode, successes, draws, rest)
        mass = math.exp(_log_total(population, successes, draws) + at_mode)

        def log_ratio(k: int) -> float:
            return _log_weight(float(k), successes, draws, rest) - at_mode

        return draw_log_concave(uniform, int(mode), mass, log_ratio, int(low), int(high))

    @staticmethod
    def _log_density(value: float, population: float, successes: float, draws: float) -> float:
        rest = population - successes
        if not max(0.0, draws - rest) <= value <= min(successes, draws) or value != math.floor(value):
            return -math.inf
        return (
            log_binomial_mass(value, successes, draws, population)
            + log_binomial_mass(draws - value, rest, draws, population)
            - log_binomial_mass(draws, population, draws, population)
        )

    @staticmethod
    def _log_densities(
        value: np.ndarray, population: np.ndarray, successes: np.ndarray, draws: np.ndarray
    ) -> np.ndarray:
        low, high = np.maximum(0.0, draws - (population - successes)), np.minimum(successes, draws)
        inside = (value >= low) & (value <= high) & (value == np.floor(value))
        return np.where(inside, log_masses(np.where(inside, value, low), population, successes, draws), -np.inf)

    def to_numpyro(self) -> Any:
        from ppl_jax.distributions import count_twins

        return count_twins.Hypergeometric(self.population, self.successes, self.draws)

    @property
    def mean(self) -> Any:
        return self.draws * _share(self.successes, self.population)

    @property
    def variance(self) -> Any:
        share = _share(self.successes, self.population)
        left = _share(self.population - self.draws, self.population - 1.0)
        return self.draws * share * (1.0 - share) * left

    @property
    def support(self) -> tuple[Any, Any]:
        parts = self.population, self.successes, self.draws
        xp: Any = np
        if any(is_tracer(part) for part in parts):
            import jax.numpy as xp
        population, successes, draws = parts
        low = xp.maximum(0.0, draws - (population - successes))
        return _whole(low), _whole(xp.minimum(successes, draws))


def _log_weight(k: float, successes: float, draws: float, rest: float) -> float:
    """Log probability of k, but for ``_log_total``."""
    return -(
        log_factorial(k) + log_factorial(successes - k) + log_factorial(draws - k) + log_factorial(rest - draws + k)
    )


def _log_total(population: float, successes: float, draws: float) -> float:
    total = log_factorial(successes) + log_factorial(population - successes) + log_factorial(draws)
    return total + log_factorial(population - draws) - log_factorial(population)


def _by_inversion(u: float, population: float, successes: float, draws: float, low: float, high: float) -> int:
    rest = population - successes
    mass = math.exp(_log_total(population, successes, draws) + _log_weight(low, successes, draws, rest))
    k, cumulative = low, mass
    while u >= cumulative and k < high and mass > 0.0:
        mass *= (successes - k) * (draws - k) / ((k + 1.0) * (rest - draws + k + 1.0))
        k += 1.0
        cumulative += mass
    return int(k)


def log_masses(k: Any, population: Any, successes: Any, draws: Any, xp: Any = np) -> Any:
    """Log probabilities of counts within the support, elementwise: three binomial ones (Loader's saddle points)."""
    rest = population - successes
    return (
        log_binomial_masses(k, successes, draws, population, xp)
        + log_binomial_masses(draws - k, rest, draws, population, xp)
        - log_binomial_masses(draws, population, draws, population, xp)
    )


def _share(part: Any, whole: Any) -> Any:
    """part / whole, 0 where nothing is there."""
    safe = np.where(np.less_equal(whole, 0.0), 1.0, whole)
    return np.where(np.less_equal(whole, 0.0), 0.0, part / safe)[()]


def _whole(bound: Any) -> Any:
    return float(bound) if np.ndim(bound) == 0 and not is_tracer(bound) else bound
