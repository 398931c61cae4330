"""How far samples can be trusted: effective sample size and R-hat of chains, and the tail of importance weights."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, inf, log, log10, nan, sqrt

import numpy as np
from scipy.fft import irfft, next_fast_len, rfft
from scipy.special import ndtri

_FEWEST = 4  # draws of half a chain, below which nothing can be said


def bulk_effective_sample_size(chains: Sequence[np.ndarray]) -> float:
    """Effective sample size of chains of one number, of their rank-normalised halves.

    Args:
      chains: the draws of each chain, (n,); the longer ones are cut to the shortest.

    Returns:
      Between 0 and n log10(n) over all; NaN where chains are too short or a draw is not finite. The number of draws
      where they are all equal: whether that is right or the chains are stuck, no draw can tell.

    Source: Vehtari, Gelman, Simpson, Carpenter and Bürkner, "Rank-normalization, folding, and localization" (2021),
      section 4.1, as in ArviZ.
    """
    halves = _halves(chains)
    if halves is None:
        return nan
    if _is_constant(halves):
        return float(halves.size)
    return _effective_sample_size(_rank_normalised(halves))


def r_hat(chains: Sequence[np.ndarray]) -> float:
    """The split R-hat of chains of one number: the greater of that of ranks and that of folded ranks; 1 is agreement.

    NaN where chains are too short, a draw is not finite, or all are equal. Source: as above, section 4.
    """
    halves = _halves(chains)
    if halves is None or _is_constant(halves):
        return nan
    folded = np.abs(halves - np.median(halves))
    found = [_r_hat(_rank_normalised(halves))]
    if not _is_constant(folded):
        found.append(_r_hat(_rank_normalised(folded)))
    return max(found)


def _halves(chains: Sequence[np.ndarray]) -> np.ndarray | None:
    """First and last half of every chain, float64 (2 m, n); None where nothing can be said."""
    half = min((len(chain) for chain in chains), default=0) // 2
    if half < _FEWEST // 2:
        return None
    length = min(len(chain) for chain in chains)
    rows = [part for chain in chains for part in (chain[:half], chain[length - half : length])]
    halves = np.asarray(rows, dtype=np.float64)
    return halves if np.isfinite(halves).all() else None


def _is_constant(values: np.ndarray) -> bool:
    return bool(np.ptp(values) < np.finfo(np.float64).resolution)


def _rank_normalised(values: np.ndarray) -> np.ndarray:
    """The normal quantiles of the ranks among all values (Blom's (r - 3/8) / (n + 1/4))."""
    from scipy.stats import rankdata  # takes a second to import

    ranks = rankdata(values, method="average").reshape(values.shape)
    return ndtri((ranks - 0.375) / (values.size + 0.25))


def _r_hat(halves: np.ndarray) -> float:
    length = halves.shape[1]
    within = float(halves.var(axis=1, ddof=1).mean())
    between = length * float(halves.mean(axis=1).var(ddof=1))
    return sqrt((between / within + length - 1) / length) if within > 0.0 else inf


def _effective_sample_size(halves: np.ndarray) -> float:
    """Geyer's initial monotone sequence over the mean autocovariance, with the variance between chains."""
    number, length = halves.shape
    covariance = _autocovariances(halves)
    within = float(covariance[:, 0].mean()) * length / (length - 1.0)
    plus = within * (length - 1.0) / length
    if number > 1:
        plus += float(halves.mean(axis=1).var(ddof=1))
    if plus <= 0.0:
        return nan
    rho = 1.0 - (within - covariance.mean(axis=0)) / plus
    rho[0] = 1.0
    pairs = rho[: (length - 1) // 2 * 2].reshape(-1, 2).sum(axis=1)
    last = int(np.argmax(pairs <= 0.0)) if np.any(pairs <= 0.0) else len(pairs) - 1
    last = max(1, last)  # this one counts by its even part alone
    tau = -1.0 + 2.0 * float(np.minimum.accumulate(pairs[:last]).sum())
    if 2 * last < length:
        tau += max(0.0, float(rho[2 * last]))
    draws = number * length
    return draws / max(tau, 1.0 / log10(draws))


def _autocovariances(halves: np.ndarray) -> np.ndarray:
    """At every lag, of each row, divided by its length."""
    length = halves.shape[1]
    centred = halves - halves.mean(axis=1, keepdims=True)
    size = next_fast_len(2 * length, real=True)
    spectrum = rfft(centred, size, axis=1)
    return irfft(np.abs(spectrum) ** 2, size, axis=1)[:, :length] / length


def pareto_k(log_weights: np.ndarray) -> float:
    """The shape of the generalised Pareto distribution of the largest importance weights.

    Below min(1 - 1 / log10(n), 0.7) their mean can be trusted; above, no number of samples at hand shows its error.

    Returns:
      NaN where there are too few weights to have a tail (under 25), -inf where the largest are all equal.

    Source: Vehtari, Simpson, Gelman, Yao and Gabry, "Pareto smoothed importance sampling" (JMLR 25, 2024), section 3;
      the fit is that of Zhang and Stephens (2009), as in ArviZ.
    """
    count = len(log_weights)
    length = ceil(min(0.2 * count, 3.0 * sqrt(count)))
    if length < 5:
        return nan
    largest = np.sort(log_weights)[-length - 1 :] - np.max(log_weights)
    cut = max(float(largest[0]), log(np.finfo(np.float64).tiny))
    tail = np.exp(largest[largest > cut]) - np.exp(cut)
    if len(tail) < 5:
        return nan if len(np.unique(log_weights)) > 5 else -inf
    return _pareto_shape(tail)


def pareto_limit(count: int) -> float:
    """The greatest shape with which ``count`` importance weights can be trusted."""
    return min(1.0 - 1.0 / log10(count), 0.7) if count > 10 else -inf


def _pareto_shape(tail: np.ndarray) -> float:
    """Zhang and Stephens' estimate of the shape, with the prior of PSIS; ``tail`` ascending and positive."""
    count = len(tail)
    points = 30 + int(sqrt(count))
    candidates = 1.0 - np.sqrt(points / (np.arange(1, points + 1, dtype=np.float64) - 0.5))
    candidates /= 3.0 * tail[int(count / 4 + 0.5) - 1]
    candidates += 1.0 / tail[-1]
    with np.errstate(all="ignore"):  # a candidate may be 0, and likelihoods hundreds of nats apart
        shapes = np.log1p(-candidates[:, None] * tail).mean(axis=1)
        likelihoods = count * (np.log(-(candidates / shapes)) - shapes - 1.0)
        known = np.isfinite(likelihoods)
        candidates, likelihoods = candidates[known], likelihoods[known]
        weights = 1.0 / np.exp(likelihoods - likelihoods[:, None]).sum(axis=1)
    real = weights >= 10.0 * np.finfo(np.float64).eps
    weights, candidates = weights[real] / weights[real].sum(), candidates[real]
    if not len(candidates):  # a tail of equal weights
        return -inf
    shape = float(np.log1p(-float(np.sum(candidates * weights)) * tail).mean())
    return (count * shape + 10.0 * 0.5) / (count + 10.0)
