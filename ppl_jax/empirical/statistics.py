"""Statistics of weighted numbers. Values have the samples along their first axis; weights are normalised.

What is a sum over samples goes through the values block by block, so that they may lie on disk. Samples of weight zero
are left out: their values may be infinite or NaN.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import log10
from typing import Any

import numpy as np
from scipy.fft import next_fast_len

BLOCK = 1 << 20  # numbers looked at together: 8 MiB


def _blocks(values: np.ndarray, weights: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Values and weights, block by block, without the samples of weight zero."""
    rows = max(1, BLOCK // max(1, values[:1].size))
    for low in range(0, len(values), rows):
        block, part = np.asarray(values[low : low + rows], dtype=np.float64), weights[low : low + rows]
        used = part > 0
        yield (block, part) if used.all() else (block[used], part[used])


def weighted_mean(values: np.ndarray, weights: np.ndarray) -> Any:
    """sum_i w_i x_i, of the shape of one value."""
    return sum(np.tensordot(part, block, axes=1) for block, part in _blocks(values, weights))


def weighted_variance(values: np.ndarray, weights: np.ndarray) -> Any:
    """sum_i w_i (x_i - mean)^2, elementwise: the variance of the weighted samples themselves, not bias-corrected."""
    mean = weighted_mean(values, weights)
    return sum(np.tensordot(part, np.square(block - mean), axes=1) for block, part in _blocks(values, weights))


def quantile(values: np.ndarray, weights: np.ndarray, q: np.ndarray) -> np.ndarray:
    """Weighted quantiles: a line through the sorted samples at the middle of their steps of the cumulative weight.

    The k-th smallest sample stands at probability w_1 + ... + w_{k-1} + w_k / 2; between these the quantile is linear,
    outside it is the smallest or largest sample. With equal weights this is definition 5 of Hyndman and Fan, "Sample
    quantiles in statistical packages" (1996), numpy's ``method="hazen"``.

    Returns:
      Array of shape ``q.shape + values.shape[1:]``.
    """
    used = weights > 0
    columns = values.reshape(len(values), -1)
    found = np.empty((q.size, columns.shape[1]))
    for j in range(columns.shape[1]):
        column = np.asarray(columns[:, j], dtype=np.float64)[used]
        order = np.argsort(column, kind="stable")
        steps = weights[used][order]
        found[:, j] = np.interp(q.ravel(), np.cumsum(steps) - steps / 2, column[order])
    return found.reshape(q.shape + values.shape[1:])


def independent_standard_error(values: np.ndarray, weights: np.ndarray) -> Any:
    """Standard error of a self-normalised importance sampling mean: sqrt(sum_i w_i^2 (x_i - mean)^2).

    Source: Owen, "Monte Carlo theory, methods and examples" (2013), equation 9.9.
    """
    mean = weighted_mean(values, weights)
    blocks = _blocks(values, weights)
    return np.sqrt(sum(np.tensordot(part**2, np.square(block - mean), axes=1) for block, part in blocks))


def family_sums(values: np.ndarray, families: np.ndarray | None) -> np.ndarray:
    """Sums of values, (n,) or (n, k), over the samples of each family; the values themselves where there are none."""
    if families is None:
        return values
    _, numbers = np.unique(families, return_inverse=True)
    order = np.argsort(numbers, kind="stable")
    return np.add.reduceat(values[order], np.flatnonzero(np.diff(numbers[order], prepend=-1)), axis=0)


def family_standard_error(values: np.ndarray, weights: np.ndarray, families: np.ndarray) -> Any:
    """Standard error of the mean of samples of which those of one family are copies of each other in part.

    sqrt(sum over families of (sum_i w_i (x_i - mean))^2), times k / (k - 1) under the root, where k is the number of
    families that count, 1 / sum of their squared weights: so that a few families, whose mean is that of the samples
    nearly, do not look exact. NaN where one family is all.

    Source: Lee and Whiteley, "Variance estimation in the particle filter" (Biometrika 2018), section 2.
    """
    mean = np.reshape(weighted_mean(values, weights), -1)
    columns = np.asarray(values, dtype=np.float64).reshape(len(values), -1)
    used = weights > 0
    residuals = weights[used, None] * (columns[used] - mean)
    squares = np.sum(family_sums(residuals, families[used]) ** 2, axis=0)
    counting = 1.0 / float(np.sum(family_sums(weights[used], families[used]) ** 2))
    if counting < 1.0 + 1e-9:
        return np.full(values.shape[1:], np.nan)
    return np.sqrt(squares * counting / (counting - 1.0)).reshape(values.shape[1:])


def chain_standard_error(values: np.ndarray, weights: np.ndarray, chains: Sequence[slice]) -> Any:
    """Standard error of the mean of correlated samples, by the initial monotone sequence of their autocovariances.

    With g(k) the autocovariance at lag k of n w_i (x_i - mean), averaged over the chains, the variance of the mean is
    [-g(0) + 2 sum_m G(m)] / n, where G(m) = g(2 m) + g(2 m + 1) is summed while it is positive and not allowed to rise.
    The mean is that of all chains together, so that chains which disagree count as correlated. Batch means need batches
    much longer than the correlation, which a slow chain does not have. NaN where a chain has fewer than four samples.

    Source: Geyer, "Practical Markov chain Monte Carlo" (1992), section 3.3; the lower bound is that of Vehtari et al.,
    "Rank-normalization, folding, and localization" (2021), equation 13.
    """
    count, lags = len(values), min((chain.stop - chain.start for chain in chains), default=0)
    if lags < 4:
        return np.full(values.shape[1:], np.nan)
    mean = weighted_mean(values, weights)
    columns = values.reshape(count, -1)
    variances = np.empty(columns.shape[1])
    for column, centre in enumerate(np.reshape(mean, -1)):
        centred = np.asarray(columns[:, column], dtype=np.float64) - centre
        residual = count * weights * np.where(weights > 0, centred, 0.0)
        lagged = np.sum([_autocovariance_sums(residual[chain], lags) for chain in chains], axis=0) / count
        variances[column] = _initial_monotone_variance(lagged) / count
    return np.sqrt(variances).reshape(values.shape[1:])


def _autocovariance_sums(residual: np.ndarray, lags: int) -> np.ndarray:
    """Sums over i of residual[i] residual[i + k] for k = 0 ... lags - 1."""
    size = next_fast_len(2 * len(residual), real=True)
    spectrum = np.fft.rfft(residual, size)
    return np.fft.irfft(np.abs(spectrum) ** 2, size)[:lags]


def _initial_monotone_variance(autocovariances: np.ndarray) -> float:
    """Asymptotic variance of a chain's mean, times the number of samples."""
    even = len(autocovariances) // 2 * 2
    pairs = autocovariances[:even:2] + autocovariances[1:even:2]
    positive = int(np.argmax(pairs <= 0.0)) if np.any(pairs <= 0.0) else len(pairs)
    total = 2.0 * float(np.minimum.accumulate(pairs[:positive]).sum()) - float(autocovariances[0])
    return max(total, float(autocovariances[0]) / log10(max(10, even)))


def heaviest(keys: np.ndarray, weights: np.ndarray) -> int:
    """Index of the first sample of the key (a row of ``keys``) of which the weights have the largest sum."""
    _, first, inverse = np.unique(keys, axis=0, return_index=True, return_inverse=True)
    totals = np.bincount(inverse.ravel(), weights=weights)
    return int(first[totals == totals.max()].min())


def keys_of(values: Sequence[Any]) -> np.ndarray:
    """A number for each value, the same for equal ones; a value that cannot be hashed equals only itself."""
    numbers: dict[Any, int] = {}
    keys: list[int] = []
    for value in values:
        try:
            keys.append(numbers.setdefault(value, len(keys)))
        except TypeError:
            keys.append(len(keys))
    return np.array(keys, dtype=np.int64)
