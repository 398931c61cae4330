"""Probabilities given as log odds (``logits=``): what no probability can say in a float, of an event all but certain.

sigmoid(40) is 1 in float64 and sigmoid(17) in float32; the logarithm of what is left would be -inf and its gradient
nothing. A distribution built from logits computes densities from them. It is stored, compared and sent as the
probabilities, which are kept off 0 and 1 so that nothing possible becomes impossible on the way.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ppl_jax.distributions.base import SMALLEST, as_parameter, is_tracer, require_finite
from ppl_jax.errors import ParameterError

_BELOW_ONE = 1.0 - 2.0**-53


def check_one(family: str, probs: Any, logits: Any) -> None:
    """Raises ParameterError unless exactly one of ``probs`` and ``logits`` is given."""
    if (probs is None) == (logits is None):
        raise ParameterError(family, "probs", probs, "given, or 'logits' in its place, but not both")


def checked(family: str, logits: Any) -> Any:
    """Log odds as a parameter is kept.

    Raises:
      ParameterError: they are not finite.
    """
    logits = as_parameter(logits)
    require_finite(family, "logits", logits)
    return logits


def probability(logits: Any) -> Any:
    """The probability with these log odds, strictly between 0 and 1."""
    if type(logits) is float:
        p = 1.0 / (1.0 + math.exp(-logits)) if logits > -700.0 else math.exp(logits)
        return min(max(p, SMALLEST), _BELOW_ONE)
    if is_tracer(logits):
        import jax
        import jax.numpy as jnp

        traced = jax.nn.sigmoid(jnp.asarray(logits, jnp.result_type(float)))
        kind = jnp.finfo(traced.dtype)
        return jnp.clip(traced, kind.tiny, 1.0 - kind.epsneg)
    from scipy.special import expit

    array = np.clip(expit(logits), SMALLEST, _BELOW_ONE)
    array.setflags(write=False)
    return array


def log_probability(logits: float) -> float:
    """log of the probability of these log odds; of the opposite event for -logits."""
    return -math.log1p(math.exp(-logits)) if logits >= 0.0 else logits - math.log1p(math.exp(logits))


def log_probabilities(logits: np.ndarray) -> np.ndarray:
    """``log_probability``, elementwise."""
    return -np.logaddexp(0.0, -logits)


def log_shares(logits: Any) -> Any:
    """Logarithms of the shares exp(logits) / sum over the last axis, as a read-only array or a tracer.

    Raises:
      ParameterError: a logit is NaN or +inf, or a row has only -inf (which stands for an impossible category).
    """
    array = as_parameter(logits)
    if is_tracer(array):
        import jax

        return jax.nn.log_softmax(array, axis=-1)
    if type(array) is float or array.ndim == 0 or array.shape[-1] == 0:
        raise ParameterError("Categorical", "logits", logits, "an array of at least one category on its last axis")
    highest = array.max(axis=-1, keepdims=True)  # NaN where one is
    if not np.isfinite(highest).all():
        raise ParameterError("Categorical", "logits", logits, "below +inf, with a finite one in every row")
    shifted = array - highest
    shares = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    shares.setflags(write=False)
    return shares


def shares(log_shares: Any) -> Any:
    """The probabilities of ``log_shares``; 0 only for impossible categories."""
    if is_tracer(log_shares):
        import jax.numpy as jnp

        smallest = jnp.finfo(log_shares.dtype).tiny
        return jnp.where(log_shares > -jnp.inf, jnp.maximum(jnp.exp(log_shares), smallest), 0.0)
    return np.where(log_shares > -np.inf, np.maximum(np.exp(log_shares), SMALLEST), 0.0)
