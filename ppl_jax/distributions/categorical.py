"""The categorical distribution.

Models build one at every draw, from a list of a few floats, sample it once and score it once. So up to 64 categories
are kept as tuples of floats, and the array that ``probs`` shows is made when it is asked for.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import Any, NoReturn

import numpy as np

from ppl_jax.distributions import log_odds
from ppl_jax.distributions.arrays import draw_categories
from ppl_jax.distributions.base import Distribution, UniformSource, as_parameter, is_tracer
from ppl_jax.errors import ParameterError

_SMALL = 64
#: Sums this near to 1 are rounding: such probs are kept as they are, and a stored distribution is rebuilt exactly.
_ROUNDING = 1e-13


class Categorical(Distribution):
    """One of the categories 0 ... K-1.

    Args:
      probs: shape (..., K), proportional to the probabilities: non-negative with a positive sum.
      logits: instead of ``probs``, their logarithms up to a constant, shape (..., K); -inf stands for an impossible
        category. Densities and gradients are then exact however small a probability is; the attribute ``logits`` holds
        the logarithms of the probabilities, and the distribution is stored and sent as ``probs``.
    """

    # _row and _sums: the K probabilities and the running sums of what was given, where it is one row; _sums else None.
    __slots__ = ("_probs", "_row", "_sums", "logits")
    parameters = ("probs",)
    discrete = True

    _probs: Any
    _row: Any
    _sums: Any

    logits: Any

    def __init__(self, probs: Any = None, *, logits: Any = None):
        self.logits = None
        if probs is None or logits is not None:
            log_odds.check_one("Categorical", probs, logits)
            self.logits = log_odds.log_shares(logits)
            probs = log_odds.shares(self.logits)
        row = _as_row(probs)
        if row is None:
            self._from_array(as_parameter(probs), probs)
            return
        self._sums = sums = tuple(accumulate(row))
        total = sums[-1]
        if not (0.0 < total < math.inf and min(row) >= 0.0):
            _refuse(probs)
        self._row = row if abs(total - 1.0) < _ROUNDING else tuple([mass / total for mass in row])
        self._probs = None
        self.shape = ()

    def _from_array(self, array: Any, given: Any) -> None:
        if type(array) is float or array.ndim == 0 or array.shape[-1] == 0:
            raise ParameterError("Categorical", "probs", given, "an array of at least one category on its last axis")
        self._probs, self._row, self._sums = array, None, None
        self.shape = tuple(array.shape[:-1])
        if is_tracer(array):
            self._probs = array if self.logits is not None else array / array.sum(axis=-1, keepdims=True)
            return
        with np.errstate(over="ignore", invalid="ignore"):
            sums = array.cumsum(axis=-1)  # sequential, as `accumulate` is
        total = sums[..., -1:]
        if not ((array >= 0.0).all() and (total > 0.0).all() and (total < np.inf).all()):
            _refuse(given)
        exact = np.abs(total - 1.0) < _ROUNDING
        normalised = array if exact.all() else np.where(exact, array, array / total)
        normalised.setflags(write=False)
        self._probs = normalised
        self._sums = sums
        if self.shape == ():
            self._row = normalised

    @property
    def probs(self) -> Any:
        """The probabilities, which sum to 1 over the last axis."""
        if self._probs is None:
            self._probs = np.array(self._row)
            self._probs.setflags(write=False)
        return self._probs

    def sample(self, rng: UniformSource) -> Any:
        if self._row is not None:
            return _draw(rng.random(), self._sums)
        values = draw_categories(rng, self._sums)
        if values is not None:
            return values.astype(np.int64)
        return self._draw_each(rng)

    def _draw_each(self, rng: UniformSource) -> np.ndarray:
        """An array of draws, one after the other."""
        rows = self._sums.reshape(-1, self._sums.shape[-1])
        return np.array([_draw(rng.random(), row) for row in rows], dtype=np.int64).reshape(self.shape)

    def log_prob(self, value: Any) -> Any:
        row = self._row if self.logits is None else None
        if row is not None and (type(value) is int or type(value) is float):
            if not 0 <= value < len(row):
                return -math.inf
            index = int(value)
            mass = row[index] if index == value else 0.0
            return math.log(mass) if mass > 0.0 else -math.inf
        if is_tracer(value) or (row is None and is_tracer(self._probs)):
            return self._traced_log_prob(value)
        if self.logits is not None:
            found = self._at(value, self.logits, -np.inf)
            return found if found.ndim else float(found)
        if self.shape == () and np.ndim(value) == 0:
            return self.log_prob(float(value))
        with np.errstate(divide="ignore"):
            return np.log(self._at(value, self.probs, 0.0))

    def _at(self, value: Any, table: np.ndarray, outside: float) -> np.ndarray:
        """What the table (..., K) has for each category in ``value``, and ``outside`` for what is none."""
        value = np.asarray(value, dtype=np.float64)
        with np.errstate(invalid="ignore"):
            inside = (value == np.floor(value)) & (value >= 0) & (value < table.shape[-1])
            indices = np.where(inside, value, 0).astype(np.int64)
        indices = np.broadcast_to(indices, np.broadcast_shapes(indices.shape, self.shape))
        table = np.broadcast_to(table, (*indices.shape, table.shape[-1]))
        return np.where(inside, np.take_along_axis(table, indices[..., None], axis=-1)[..., 0], outside)

    def layout(self) -> tuple:
        return ("Categorical", tuple(self._probs.shape) if self._row is None else (len(self._row),))

    def numbers(self) -> list[float]:
        return list(self._row) if type(self._row) is tuple else self.probs.ravel().tolist()

    def inflated(self, factor: float) -> Categorical:
        if self.logits is not None:
            return Categorical(logits=self.logits / factor)
        return Categorical(self.probs ** (1.0 / factor))

    def to_numpyro(self) -> Any:
        from ppl_jax.distributions import choice_twins

        if self.logits is not None:
            return choice_twins.CategoricalLogits(self.logits)
        return choice_twins.CategoricalProbs(self.probs)

    @property
    def mean(self) -> Any:
        return (self.probs * np.arange(self.probs.shape[-1])).sum(axis=-1)

    @property
    def variance(self) -> Any:
        distance = np.arange(self.probs.shape[-1]) - np.expand_dims(self.mean, -1)
        return (self.probs * np.square(distance)).sum(axis=-1)

    @property
    def support(self) -> tuple[Any, Any]:
        return 0, (self._probs.shape[-1] if self._row is None else len(self._row)) - 1

    def __repr__(self) -> str:
        return super().__repr__() if self.logits is None else f"Categorical(logits={self.logits!r})"


def _as_row(probs: Any) -> tuple[float, ...] | None:
    """A short list, tuple or vector of numbers as floats; None for all else."""
    if type(probs) is np.ndarray:
        return tuple(map(float, probs.tolist())) if probs.ndim == 1 and 0 < probs.size <= _SMALL else None
    if not isinstance(probs, (list, tuple)) or not 0 < len(probs) <= _SMALL:
        return None
    try:
        return tuple(map(float, probs))
    except TypeError:  # nested lists, tracers
        return None


def _draw(u: float, sums: Sequence[float]) -> int:
    """First k for which u * total lies below the sum of the weights 0 ... k.

    That weight is positive, and there is such a k because u * total, rounded, stays below the total; except for totals
    of a few times the smallest number, for which the last category of positive weight stands in.
    """
    total = sums[-1]
    k = bisect_right(sums, u * total)
    return k if k < len(sums) else bisect_left(sums, total)


def _refuse(probs: Any) -> NoReturn:
    raise ParameterError("Categorical", "probs", probs, "non-negative and finite, with a positive finite sum")
