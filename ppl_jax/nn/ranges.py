"""What a network makes of observations far from what it was trained on: squashed, so that it does not extrapolate.

Two things keep a network on known ground. In training and after it, numbers beyond a few standard deviations are seen
on a logarithmic scale (``bend``): of heavy-tailed data the tail would drown the rest. And of given data, what lies
beyond the range met in training moves on by at most a quarter of that range (``held``); the user is told.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

_KNEE = 5.0  # standard deviations beyond which numbers are seen on a logarithmic scale
#: Of networks whose range was not kept: of the thousand traces by which they standardise, none lies farther.
_UNKNOWN = math.sqrt(1000.0)
_SHARE = 0.25  # of the range, by which numbers may leave it
_SHOWN = 3  # observations that a warning describes

Range = tuple[np.ndarray, np.ndarray]  # the least and the largest standardised number, each of an observation's shape


class Beyond(NamedTuple):
    """An observation that lies far outside the range of the training.

    Attributes:
      name: of the observation.
      number: how many of its elements do; ``size``: of how many.
      value: the number that lies farthest; ``place``: its index, () for a scalar.
      low, high: the range of that element in training, in the units of the observation; NaN if it is not known.
      seen: the number that the network is told in its place.
    """

    name: str
    number: int
    size: int
    value: float
    place: tuple[int, ...]
    low: float
    high: float
    seen: float


def bend(z: Any) -> Any:
    """Standardised numbers as a network sees them: themselves up to 5, and logarithmic beyond; NaN stays."""
    beyond = jnp.maximum(jnp.abs(z) - _KNEE, 0.0)
    return jnp.where(beyond > 0.0, jnp.sign(z) * (_KNEE + jnp.log1p(beyond)), z)


def widened(
    known: Mapping[str, Range], observations: Mapping[str, np.ndarray], presence: np.ndarray
) -> dict[str, Range]:
    """Ranges that hold more traces.

    Args:
      known: name -> range so far; a name that is missing has none.
      observations: name -> standardised numbers, (n, *shape); NaN where there is no element.
      presence: which there are, (n, observations).
    """
    out = {}
    for number, (name, values) in enumerate(observations.items()):
        rows = values[presence[:, number] > 0.0]
        finite = np.isfinite(rows)
        if not finite.all():
            lows, highs = np.where(finite, rows, np.inf), np.where(finite, rows, -np.inf)
        else:
            lows = highs = rows
        low, high = known.get(name) or unmet(values.shape[1:])
        out[name] = (
            np.minimum(low, lows.min(axis=0, initial=np.inf)),
            np.maximum(high, highs.max(axis=0, initial=-np.inf)),
        )
    return out


def not_finite(observations: Mapping[str, np.ndarray], varying: frozenset[str]) -> dict[str, int]:
    """Name -> in how many traces an observation is not finite; without those that always are.

    Args:
      observations: name -> standardised numbers, (n, *shape).
      varying: names of those in which NaN stands for no element.
    """
    found = {}
    for name, values in observations.items():
        wrong = np.isinf(values) if name in varying else ~np.isfinite(values)
        if wrong.any():
            found[name] = int(wrong.reshape(len(values), -1).any(axis=1).sum())
    return found


def unmet(shape: tuple[int, ...]) -> Range:
    """The range of what was never met."""
    return np.full(shape, np.inf, np.float32), np.full(shape, -np.inf, np.float32)


def pooled(known: Range) -> Range:
    """The range of the elements of a set or sequence, which are alike: one for all along the first dimension."""
    low, high = known
    return (
        np.broadcast_to(low.min(axis=0, keepdims=True), low.shape),
        np.broadcast_to(high.max(axis=0, keepdims=True), high.shape),
    )


def held(z: np.ndarray, known: Range | None) -> tuple[np.ndarray, np.ndarray]:
    """Standardised numbers held back near the range of the training.

    Args:
      z: float64, of the shape of the range; infinite for what is too large to be standardised, NaN for no element.
      known: the range; None where it was not kept.

    Returns:
      The numbers, themselves within the range and moving on smoothly beyond it, by a quarter of it (and at least 1) at
      most; and which lie farther out than that, bool.
    """
    if known is None:
        low, high = np.full(z.shape, -_UNKNOWN), np.full(z.shape, _UNKNOWN)
    else:
        low, high = (np.asarray(end, np.float64) for end in known)
    met = low <= high
    low, high = np.where(met, low, -1.0), np.where(met, high, 1.0)
    width = np.maximum(_SHARE * (high - low), 1.0)
    above, below = np.maximum(z - high, 0.0), np.maximum(low - z, 0.0)
    out = np.where(above > 0.0, high - width * np.expm1(-above / width), z)
    out = np.where(below > 0.0, low + width * np.expm1(-below / width), out)
    far = np.where(high > low, width, 1e-3 * (1.0 + np.abs(high)))  # what never varied says nothing of other numbers
    return out, (above > far) | (below > far)


def found_beyond(
    name: str, value: np.ndarray, seen: np.ndarray, far: np.ndarray, known: Range | None, scale: tuple[Any, Any]
) -> Beyond:
    """What is to be said of an observation of which some elements lie ``far`` outside the range.

    Args:
      name: of the observation.
      value: as it is given; ``seen``: standardised and held back; ``far``: which elements.
      known: the range of the training, standardised.
      scale: mean and standard deviation.
    """
    mean, stddev = scale
    with np.errstate(over="ignore", invalid="ignore"):
        distance = np.where(far, np.abs((value - mean) / stddev), -1.0)
    place = tuple(int(k) for k in np.unravel_index(int(np.argmax(distance)), far.shape))
    low, high = (math.nan, math.nan) if known is None else (_raw(end, place, scale) for end in known)
    return Beyond(name, int(far.sum()), far.size, float(value[place]), place, low, high, _raw(seen, place, scale))


def _raw(z: np.ndarray, place: tuple[int, ...], scale: tuple[Any, Any]) -> float:
    """A standardised number, of single precision, in the units of the observation."""
    mean, stddev, single = float(scale[0][place]), float(scale[1][place]), float(z[place])
    number = mean + single * stddev
    return 0.0 if abs(number) < 1e-6 * (abs(mean) + stddev) else number


def described(beyond: list[Beyond], num_traces: int) -> str:
    """The text of a warning."""
    parts = [_one(found) for found in beyond[:_SHOWN]]
    if len(beyond) > _SHOWN:
        parts.append(f"and so do {len(beyond) - _SHOWN} observations more")
    trained = f" ({num_traces:,} traces)" if num_traces else ""
    return (
        f"The data lie far outside what the network was trained on{trained}: {'; '.join(parts)}. The network is told "
        "less extreme numbers, and its proposals are guesses there. The weights are exact all the same: trust the "
        "result as far as its effective sample size goes. For better proposals train on a prior under which such data "
        "occur, or use an inference without a network."
    )


def _one(found: Beyond) -> str:
    index = f"[{', '.join(map(str, found.place))}]" if found.place else ""
    if math.isnan(found.low):
        was = "its range in training was not kept"
    elif not found.low <= found.high:
        was = "in training it never occurred"
    elif found.low == found.high:
        was = f"in training it was always {found.low:.6g}"
    else:
        was = f"in training {found.low:.6g} to {found.high:.6g}"
    count = f", as do {found.number} of its {found.size} elements" if found.number > 1 else ""
    return f"'{found.name}'{index} is {found.value:.6g} ({was}; the network is told {found.seen:.6g}){count}"
