"""Binomial probabilities by saddle points: Loader, "Fast and accurate computation of binomial probabilities" (2000).

Log-factorials of large numbers lose all digits of their differences. Here the log probability is written as deviances,
each computed as one small number, and corrections of Stirling's formula.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

_HALF_LOG_2PI = 0.5 * math.log(2.0 * math.pi)
_SMALL = 16
#: log n! - (n + 1/2) log n + n - log(2 pi) / 2 for n = 1 ... 15; 0 stands at 0, where it is not used.
_CORRECTIONS = np.array(
    [0.0] + [math.lgamma(n + 1.0) - (n + 0.5) * math.log(n) + n - _HALF_LOG_2PI for n in range(1, _SMALL)]
)
_NEAR = 0.1  # relative distances for which the deviance is a series


def _correction(n: float) -> float:
    if n < _SMALL:
        return float(_CORRECTIONS[int(n)])
    square = 1.0 / (n * n)
    return (1.0 / 12.0 - square * (1.0 / 360.0 - square * (1.0 / 1260.0 - square / 1680.0))) / n


def _deviance(x: float, mean: float) -> float:
    """x log(x / mean) + mean - x, of x >= 0 and mean > 0."""
    distance = (x - mean) / (x + mean)
    if abs(distance) >= _NEAR:
        return (x * math.log(x / mean) if x > 0.0 else 0.0) + mean - x
    return (x - mean) * distance + 2.0 * x * float(_series(distance))


def _series(v: Any) -> Any:
    """atanh(v) - v for |v| < 0.1."""
    w = v * v
    s = 1.0 / 17.0
    for n in (15.0, 13.0, 11.0, 9.0, 7.0, 5.0, 3.0):
        s = s * w + 1.0 / n
    return v * w * s


def log_binomial_mass(k: float, n: float, part: float, whole: float) -> float:
    """Log probability of k successes in n trials, each of probability part / whole; 0 <= k <= n."""
    p, q = part / whole if whole > 0.0 else 0.0, (whole - part) / whole if whole > 0.0 else 1.0
    if k == 0.0:
        return n * math.log(q) if n > 0.0 else 0.0
    if k == n:
        return n * math.log(p)
    return (
        _correction(n)
        - _correction(k)
        - _correction(n - k)
        - _deviance(k, n * p)
        - _deviance(n - k, n * q)
        - _HALF_LOG_2PI
        + 0.5 * (math.log(n) - math.log(k) - math.log(n - k))
    )


def log_binomial_masses(k: Any, n: Any, part: Any, whole: Any, xp: Any = np) -> Any:
    """``log_binomial_mass``, elementwise; ``xp`` is numpy or JAX's."""
    whole = xp.maximum(whole, 1.0)
    p, q = part / whole, (whole - part) / whole
    none, all_ = (k <= 0.0) | (n <= 0.0), k >= n
    middle = ~(none | all_)
    n_, k_, p_, q_ = (xp.where(middle, value, safe) for value, safe in ((n, 2.0), (k, 1.0), (p, 0.5), (q, 0.5)))
    inner = (
        _corrections(n_, xp)
        - _corrections(k_, xp)
        - _corrections(n_ - k_, xp)
        - _deviances(k_, n_ * p_, xp)
        - _deviances(n_ - k_, n_ * q_, xp)
        - _HALF_LOG_2PI
        + 0.5 * (xp.log(n_) - xp.log(k_) - xp.log(n_ - k_))
    )
    at_none = n * xp.log(xp.where(none & (n > 0.0), q, 1.0))
    at_all = n * xp.log(xp.where(all_ & ~none, p, 1.0))
    return xp.where(none, at_none, xp.where(all_, at_all, inner))


def _corrections(n: Any, xp: Any) -> Any:
    large = xp.maximum(n, float(_SMALL))
    square = 1.0 / (large * large)
    series = (1.0 / 12.0 - square * (1.0 / 360.0 - square * (1.0 / 1260.0 - square / 1680.0))) / large
    index = xp.minimum(n, _SMALL - 1.0).astype(int)
    return xp.where(n < _SMALL, xp.asarray(_CORRECTIONS)[index], series)


def _deviances(x: Any, mean: Any, xp: Any) -> Any:
    distance = (x - mean) / (x + mean)
    near = xp.abs(distance) < _NEAR
    v = xp.where(near, distance, 0.0)
    far = x * xp.log(xp.where(near, 1.0, x / mean)) + mean - x
    return xp.where(near, (x - mean) * v + 2.0 * x * _series(v), far)


def log_count_masses(k: Any, n: Any, p: Any, q: Any, log_p: Any, log_q: Any, xp: Any = np) -> Any:
    """Log probability of k successes in n trials (0 <= k <= n) of probability p, with q = 1 - p.

    ``log_p`` and ``log_q`` carry digits that p and q have not (1 - p = 1e-400); they decide where one event is all but
    certain. Elementwise; ``xp`` is numpy or JAX's, whose derivatives are finite.
    """
    none, all_ = k <= 0.0, k >= n
    middle = ~(none | all_)
    certain = (xp.minimum(log_p, log_q) < -25.0) & middle
    even = middle & ~certain
    n_, k_, p_, q_ = (xp.where(even, value, safe) for value, safe in ((n, 2.0), (k, 1.0), (p, 0.5), (q, 0.5)))
    excess = xp.where(p_ < q_, k_ - n_ * p_, n_ * q_ - (n_ - k_))
    inner = (
        _corrections(n_, xp)
        - _corrections(k_, xp)
        - _corrections(n_ - k_, xp)
        - deviance_by(excess, k_, n_ * p_, xp)
        - deviance_by(-excess, n_ - k_, n_ * q_, xp)
        - _HALF_LOG_2PI
        + 0.5 * (xp.log(n_) - xp.log(k_) - xp.log(n_ - k_))
    )
    successes = xp.where(none, 0.0, k * xp.where(none, 0.0, log_p))
    failures = xp.where(all_, 0.0, (n - k) * xp.where(all_, 0.0, log_q))
    m, j = xp.where(certain, n, 2.0), xp.where(certain, k, 1.0)
    choose = (
        _corrections(m, xp)
        - _corrections(j, xp)
        - _corrections(m - j, xp)
        - _HALF_LOG_2PI
        + 0.5 * (xp.log(m) - xp.log(j) - xp.log(m - j))
        - j * _log_share(j, m, xp)
        - (m - j) * _log_share(m - j, m, xp)
    )
    return xp.where(even, inner, xp.where(certain, choose, 0.0) + successes + failures)


def _log_share(part: Any, whole: Any, xp: Any) -> Any:
    """log(part / whole) of 0 < part < whole, also where they are nearly equal."""
    most = 2.0 * part > whole
    rest = xp.where(most, (whole - part) / whole, 0.0)
    return xp.where(most, xp.log1p(-rest), xp.log(xp.where(most, 1.0, part / whole)))


def log_poisson_masses(k: Any, rate: Any, xp: Any = np) -> Any:
    """Log probability of k >= 0 events where ``rate`` >= 0 are expected, elementwise, as ``log_count_masses``."""
    some = (k > 0.0) & (rate > 0.0)
    k_, rate_ = xp.where(some, k, 1.0), xp.where(some, rate, 1.0)
    inner = -_corrections(k_, xp) - deviance_by(k_ - rate_, k_, rate_, xp) - _HALF_LOG_2PI - 0.5 * xp.log(k_)
    return xp.where(some, inner, xp.where(k > 0.0, -xp.inf, -rate))


def deviance_by(excess: Any, x: Any, mean: Any, xp: Any = np) -> Any:
    """x log(x / mean) + mean - x of x > 0 and mean > 0, where excess = x - mean is known better than its terms."""
    v = excess / (x + mean)
    near = xp.abs(v) < _NEAR
    v = xp.where(near, v, 0.0)
    far = x * (xp.log(x) - xp.log(mean)) - excess
    return xp.where(near, excess * v + 2.0 * x * _series(v), far)
