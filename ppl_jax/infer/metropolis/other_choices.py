"""A value of a Categorical that meets another number of categories, as where the number of components has moved.

Say there were m categories, with probabilities p, and now there are n, with q. The value z of the present execution is
carried over by a rule whose way back is the same rule:

- n > m: a value is drawn from q; where it is one of the first m, z stays in its place. So z stays with probability
  Q = q(0) + ... + q(m - 1), and otherwise becomes a new category k with probability q(k).
- n < m: z stays if it is one of the first n, and is drawn from q if not.

Each is what undoes the other. The ratio of acceptance, new density times probability of the way back over old density
times probability of the way there, has for a value that changes the factor q(k) p(z) / (p(z) q(k)) = 1; for one that
stays q(z) / (p(z) Q) where n > m, and q(z) P / p(z) where n < m, with P = p(0) + ... + p(n - 1). Of equal probabilities
all of this is 1: whether the number moves is decided by the data.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ppl_jax.distributions import Categorical, Distribution
from ppl_jax.distributions.base import UniformSource


def has_other_choices(old: Distribution, new: Distribution) -> bool:
    """Whether both are Categorical and have different numbers of categories."""
    return type(old) is type(new) is Categorical and number_of_choices(old.layout()) != number_of_choices(new.layout())


def number_of_choices(layout: Any) -> int | None:
    """How many categories a distribution of this layout has; None of another family."""
    return layout[1][-1] if layout[0] == "Categorical" else None


def carried_over(old: Distribution, value: Any, new: Distribution, rng: UniformSource) -> tuple[Any, float]:
    """The value under ``new``, and the logarithm of the factor of the ratio; see the module.

    Args:
      old, new: Categorical of one shape and different numbers of categories.
      value: of ``old``, an integer or integers of its shape.
      rng: from which a value is drawn under ``new`` where there are more categories, or the value is none of them.
    """
    before, after = (number_of_choices(distribution.layout()) or 0 for distribution in (old, new))
    growing = after > before
    drawn = new.sample(rng) if growing or np.any(np.asarray(value) >= after) else value
    stays = np.asarray(drawn) < before if growing else np.asarray(value) < after
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = _log_share(new, value, after) - _log_share(old, value, before)
        if growing:
            ratio = ratio - np.log(np.broadcast_to(new.probs, (*new.shape, after))[..., :before].sum(axis=-1))
        else:
            ratio = ratio + np.log(np.broadcast_to(old.probs, (*old.shape, before))[..., :after].sum(axis=-1))
    kept = np.where(stays, value, drawn)
    log_factor = float(np.sum(np.where(stays, ratio, 0.0)))
    return (int(kept) if kept.ndim == 0 else kept), -math.inf if math.isnan(log_factor) else log_factor


def _log_share(distribution: Distribution, value: Any, count: int) -> np.ndarray:
    """Log probability of each value, -inf of one that is no category; without a distribution's checks."""
    values = np.asarray(value)
    table = np.broadcast_to(distribution.probs, (*distribution.shape, count))
    picked = np.take_along_axis(table, np.minimum(values, count - 1)[..., None], axis=-1)[..., 0]
    return np.log(np.where(values < count, picked, 0.0))
