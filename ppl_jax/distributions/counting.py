"""What the families of counts share: the check of a count, and a sampler for every log-concave law on the integers."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ppl_jax.distributions.base import holds, is_tracer
from ppl_jax.errors import ParameterError


def require_count(family: str, parameter: str, value: Any, most: float, written: str) -> None:
    """Raises ParameterError unless ``value`` is an integer in [0, ``most``] everywhere; ``written`` says the bound."""
    if type(value) is float:
        whole: Any = 0.0 <= value <= most and value.is_integer()
    elif is_tracer(value):
        return
    else:
        whole = (value >= 0.0) & (value <= most) & (value == np.floor(value))
    if not holds(whole):
        raise ParameterError(family, parameter, value, f"an integer in [0, {written}]")


def draw_log_concave(
    uniform: Any, mode: int, mass: float, log_ratio: Callable[[int], float], low: int, high: int
) -> int:
    """An integer in [low, high] of a log-concave law: Devroye (Computing 39, 1987), at most five trials on average.

    Args:
      mode: where the law is greatest; ``mass``: its probability there.
      log_ratio: log of the probability of k over ``mass``.
    """
    w = 1.0 + 0.5 * mass
    while True:
        u, z = uniform() - 0.5, uniform()
        v = 2.0 * abs(u) * (1.0 + w)  # which part of the envelope: a plateau as wide as w, then exponential tails
        if v <= w:
            y, cover = v / mass, 1.0
        else:
            cover = 1.0 + w - v
            if cover <= 0.0:
                continue
            y = (w - math.log(cover)) / mass
        step = math.floor(y + 0.5)
        k = mode - step if u < 0.0 else mode + step
        if low <= k <= high and math.log(z * cover) <= log_ratio(k):
            return k
