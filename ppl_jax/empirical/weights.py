"""Log weights of samples: checked, normalised, summed, and resampled by."""

from __future__ import annotations

from typing import Any

import numpy as np

from ppl_jax.errors import DegenerateWeightsError, PPLError
from ppl_jax.streams import Stream, check_seed, derive_seed
from ppx.streams import uniforms

RESAMPLING = 0x7265_7361  # label of the streams of resampling, which engines do not draw from


def check_log_weights(log_weights: Any, count: int) -> np.ndarray:
    """The log weights as a read-only float64 array (count,); None stands for equal ones.

    Raises:
      DegenerateWeightsError: one is NaN or +inf.
      PPLError: they are not one per value.
    """
    if log_weights is None:
        checked = np.zeros(count)
    else:
        checked = np.asarray(log_weights, dtype=np.float64).view()
    if checked.shape != (count,):
        raise PPLError(f"{count} values need log weights of shape ({count},), but their shape is {checked.shape}.")
    if count and not np.max(checked) < np.inf:
        bad = np.flatnonzero(~(checked < np.inf))
        raise DegenerateWeightsError(
            f"{len(bad)} of {count} log weights are NaN or +inf, the first that of value {bad[0]} ({checked[bad[0]]}). "
            "A log weight is finite, or -inf for a sample of probability zero: look for a density that is infinite or "
            "not a number."
        )
    checked.flags.writeable = False
    return checked


def log_sum(log_weights: np.ndarray) -> float:
    """Logarithm of the sum of the weights; -inf where all are zero or there is none."""
    highest = float(np.max(log_weights, initial=-np.inf))
    return highest + float(np.log(np.sum(np.exp(log_weights - highest)))) if highest > -np.inf else highest


def normalised(log_weights: np.ndarray) -> np.ndarray:
    """The weights, scaled to sum to 1; float64 (n,).

    Raises:
      DegenerateWeightsError: all are zero, or there is none.
    """
    highest = float(np.max(log_weights, initial=-np.inf))
    if highest == -np.inf:
        raise DegenerateWeightsError(
            f"All {len(log_weights)} weights are zero, so no expectation exists. No sample agrees with what was "
            "observed: take more samples, a wider likelihood, or check the observed values."
            if len(log_weights)
            else "There are no samples, so no expectation exists."
        )
    weights = np.exp(log_weights - highest)
    weights /= weights.sum()
    return weights


def systematic(weights: np.ndarray, count: int, seed: int | None) -> np.ndarray:
    """Indices of ``count`` samples by systematic resampling: sample i is taken floor or ceil(count * w_i) times.

    Source: Douc, Cappé and Moulines, "Comparison of resampling schemes for particle filtering" (2005), section 2.4.
    """
    return systematic_at(weights, count, Stream(derive_seed(check_seed(seed), RESAMPLING)).random())


def systematic_at(weights: np.ndarray, count: int, shift: float) -> np.ndarray:
    """See :func:`systematic`; ``shift`` in (0, 1) is its only random number. Indices in ascending order."""
    return _inverse_cdf(weights, (np.arange(count) + shift) / max(count, 1))


def multinomial(weights: np.ndarray, count: int, seed: int | None) -> np.ndarray:
    """Indices of ``count`` independent draws from the samples, in random order."""
    blocks = -(-count // 2)
    points = uniforms(derive_seed(check_seed(seed), RESAMPLING), np.zeros(1, np.uint64), 0, blocks)[0, :count]
    return _inverse_cdf(weights, points)


def _inverse_cdf(weights: np.ndarray, points: np.ndarray) -> np.ndarray:
    """For each point in (0, 1) the first sample at which the cumulative weight exceeds it; never one of weight zero."""
    cumulative = np.cumsum(weights)
    last = np.flatnonzero(weights)[-1]  # rounding may leave the total below the last point
    return np.minimum(np.searchsorted(cumulative, points * cumulative[-1], side="right"), last)
