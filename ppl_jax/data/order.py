"""Random orders that are computed, not stored: position k of epoch e is a function of (seed, e, k) alone.

Training asks for one place of an epoch after the other, also for a place in the middle when it resumes, and a dataset
may hold more traces than memory has room for their numbers. So a permutation of n things is a keyed bijection on
0 ... n - 1: a balanced Feistel network over the next even number of bits, walked along its cycle until it is back below
n (Black and Rogaway, "Ciphers with arbitrary finite domains", 2002). A few things are simply sorted by random keys.

Rows are read in random order, but not from everywhere at once: chunks of neighbouring rows are permuted, and the rows
of so many chunks as make a window are permuted among each other. What fits in one window is in wholly random order; of
what does not, a minibatch reads pages that others read too.
"""

from __future__ import annotations

import numpy as np

CHUNK = 512  # rows that stand together on disk and are read within one window: a page of float64 per column
WINDOW = 1 << 16  # rows permuted among each other

_ROUNDS = 6
_SMALL = 1024  # things that are sorted by random keys instead
_U = np.uint64
_LOW = (1 << 64) - 1
_FIRST, _SECOND, _STEP = 0xBF58476D1CE4E5B9, 0x94D049BB133111EB, 0x9E3779B97F4A7C15


def derive(key: int, *labels: int) -> int:
    """A key for an independent purpose, a function of ``key`` and the labels (not negative) alone."""
    for label in labels:
        key = (key + _STEP * (label + 1)) & _LOW
        key = ((key ^ (key >> 30)) * _FIRST) & _LOW
        key = ((key ^ (key >> 27)) * _SECOND) & _LOW
        key ^= key >> 31
    return key


class Permutation:
    """A permutation of 0 ... n - 1 chosen by ``key``, an integer in [0, 2**64)."""

    def __init__(self, n: int, key: int):
        self.n = n
        self._all: np.ndarray | None = None
        if n <= _SMALL:
            self._all = np.argsort(_mix(np.arange(n, dtype=np.uint64) * _U(_STEP) + _U(key)), kind="stable")
            return
        half = max(1, (max(n - 1, 1).bit_length() + 1) // 2)
        self._half, self._mask = _U(half), _U((1 << half) - 1)
        self._keys = [_U(derive(key, number)) for number in range(_ROUNDS)]

    def __call__(self, places: np.ndarray) -> np.ndarray:
        """What stands at ``places``, integers (m,) in [0, n); int64 (m,)."""
        if self._all is not None:
            return self._all[places]
        found = self._once(np.asarray(places).astype(np.uint64))
        beyond = np.flatnonzero(found >= self.n)
        while beyond.size:
            found[beyond] = self._once(found[beyond])
            beyond = beyond[found[beyond] >= self.n]
        return found.astype(np.int64)

    def _once(self, numbers: np.ndarray) -> np.ndarray:
        left, right = numbers >> self._half, numbers & self._mask
        for key in self._keys:
            left, right = right, left ^ (_mix(right + key) & self._mask)
        return (left << self._half) | right


def _mix(words: np.ndarray) -> np.ndarray:
    """A bijection of 64-bit words in which every bit depends on every other: the finaliser of SplitMix64."""
    words = (words ^ (words >> _U(30))) * _U(_FIRST)
    words = (words ^ (words >> _U(27))) * _U(_SECOND)
    return words ^ (words >> _U(31))


class RowOrder:
    """A random order of the rows of several types, without replacement.

    Args:
      counts: rows of each type, integers (t,).
      key: integer in [0, 2**64).
    """

    def __init__(self, counts: np.ndarray, key: int):
        counts = np.asarray(counts, dtype=np.int64)
        self.total = int(counts.sum())
        self._key = key
        if self.total <= WINDOW:  # one window: the order of the chunks would change nothing
            self._types, self._first, sizes = np.arange(len(counts)), np.zeros(len(counts), np.int64), counts
        else:
            chunks = -(-counts // CHUNK)
            order = Permutation(int(chunks.sum()), derive(key, 0))(np.arange(chunks.sum()))
            types = np.repeat(np.arange(len(counts)), chunks)
            first = CHUNK * (np.arange(len(types)) - np.repeat(np.cumsum(chunks) - chunks, chunks))
            self._types, self._first = types[order], first[order]
            sizes = np.minimum(CHUNK, counts[self._types] - self._first)
        self._ends = np.cumsum(sizes)
        self._starts = self._ends - sizes
        self._windows: tuple[int, Permutation] | None = None

    def __call__(self, start: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
        """Places ``start ... stop - 1`` of the order: index of the type and of the row within it, int64 each."""
        parts = []
        while start < stop:
            window = start // WINDOW
            end = min(stop, (window + 1) * WINDOW)
            places = self._window(window)(np.arange(start, end) - window * WINDOW)
            parts.append(places + window * WINDOW)
            start = end
        rows = np.concatenate(parts) if len(parts) > 1 else parts[0] if parts else np.empty(0, np.int64)
        if len(self._ends) == 1:
            return np.zeros(len(rows), np.int64), rows
        chunk = np.searchsorted(self._ends, rows, side="right")
        return self._types[chunk], self._first[chunk] + rows - self._starts[chunk]

    def _window(self, number: int) -> Permutation:
        if self._windows is None or self._windows[0] != number:
            size = min(WINDOW, self.total - number * WINDOW)
            self._windows = number, Permutation(size, derive(self._key, 1, number))
        return self._windows[1]


class BatchOrder:
    """Which rows make up each minibatch of an epoch, every minibatch of one group of types.

    The groups follow each other at random, in proportion to their minibatches; one minibatch of each group, at a random
    place, is smaller by what does not divide.

    Args:
      groups: for each group its types, integers.
      counts: rows of each type, integers (t,).
      batch_size: rows of a full minibatch.
      key: integer in [0, 2**64).
    """

    def __init__(self, groups: list[np.ndarray], counts: np.ndarray, batch_size: int, key: int):
        self._groups, self._counts, self._size, self._key = groups, counts, batch_size, key
        self._totals = np.array([counts[group].sum() for group in groups], dtype=np.int64)
        batches = -(-self._totals // batch_size)
        self.total = int(batches.sum())
        sequence = np.repeat(np.arange(len(groups)), batches)
        self._sequence = sequence[Permutation(max(self.total, 1), derive(key, 0))(np.arange(self.total))]
        order = np.argsort(self._sequence, kind="stable")
        self._turn = np.empty(self.total, np.int64)  # how often the group had its turn before
        self._turn[order] = np.arange(self.total) - np.repeat(np.cumsum(batches) - batches, batches)
        self._batches = batches
        self._orders: dict[int, RowOrder] = {}

    def __call__(self, position: int) -> tuple[np.ndarray, np.ndarray]:
        """The rows of minibatch ``position``: type and row within the type, int64 (n,) each."""
        group, turn = int(self._sequence[position]), int(self._turn[position])
        total, batches = int(self._totals[group]), int(self._batches[group])
        short = derive(self._key, 1, group) % batches
        missing = batches * self._size - total
        start = turn * self._size - (missing if turn > short else 0)
        types, rows = self._order(group)(start, start + self._size - (missing if turn == short else 0))
        return self._groups[group][types], rows

    def _order(self, group: int) -> RowOrder:
        order = self._orders.get(group)
        if order is None:
            if len(self._orders) >= 256:  # those of small groups are quickly made again
                self._orders.clear()
            order = self._orders[group] = RowOrder(self._counts[self._groups[group]], derive(self._key, 2, group))
        return order
