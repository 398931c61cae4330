"""Statistics of weighted numbers. Values have the samples along their first axis; weights are normalised.

What is a sum over samples goes through the values block by block, so that they may lie on disk. Samples of weight zero
are left out: their values may be infinite or NaN.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import isqrt
from typing import Any

import numpy as np

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


def chain_standard_error(values: np.ndarray, weights: np.ndarray, chains: Sequence[slice]) -> Any:
    """Standard error of the mean of correlated samples, by batch means.

    Each chain of length m is cut into batches of b = floor(sqrt(m)); the variance of the batch means, over all chains,
    estimates sigma^2 / b, and the result is sigma / sqrt(n). NaN where there are fewer than two batches.

    Source: Flegal and Jones, "Batch means and spectral variance estimators in Markov chain Monte Carlo" (2010).
    """
    mean = weighted_mean(values, weights)
    lengths = [isqrt(chain.stop - chain.start) for chain in chains]
    squares, batches = np.zeros(values.shape[1:]), 0
    for chain, length in zip(chains, lengths, strict=True):
        for low in range(chain.start, chain.stop - length + 1, length) if length else ():
            part = weights[low : low + length]
            block = np.asarray(values[low : low + length], dtype=np.float64)
            residual = np.tensordot(part[part > 0], block[part > 0] - mean, axes=1) * (len(values) / length)
            squares, batches = squares + length * np.square(residual), batches + 1
    variance = squares / (batches - 1) if batches > 1 else np.full(values.shape[1:], np.nan)
    return np.sqrt(variance / len(values))


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
