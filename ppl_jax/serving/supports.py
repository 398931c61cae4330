"""Whether a value that is kept can be read by the program: families whose bounds depend on their parameters."""

from __future__ import annotations

from typing import Any

import numpy as np

_MOVING = frozenset({"Uniform", "TruncatedNormal", "Binomial", "BetaBinomial", "Hypergeometric", "Pareto", "Delta"})
_WITH_PROBABILITIES = frozenset({"Categorical", "Bernoulli"})


def is_within(distribution: Any, value: Any) -> bool:
    """Whether a value of a distribution's shape lies within the bounds that its parameters give (PROTOCOL.md, 8)."""
    family = type(distribution).__name__
    if family in _MOVING:
        low, high = distribution.support
        return bool(np.all((value >= low) & (value <= high)))
    if family in _WITH_PROBABILITIES:
        return bool(np.all(distribution.log_prob(value) > -np.inf))
    if family == "Mixture":
        parts = zip(np.asarray(distribution.probs).tolist(), distribution.components, strict=True)
        return any(probability > 0.0 and is_within(component, value) for probability, component in parts)
    return True
