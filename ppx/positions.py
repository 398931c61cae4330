"""Random streams that know their position: what lets the inference side and a front end draw from the same stream."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ppx.messages import Draws
from ppx.streams import BATCH, PREFETCHED_BLOCKS, uniforms

_64_BITS = (1 << 64) - 1
_MOST_BLOCKS = 2048


class PositionedStream:
    """The stream ``(seed, index)`` of :mod:`ppx.streams` from uniform number ``position`` on.

    Args:
      seed, index: integers in [0, 2**64).
      position: how many uniforms are used already.
      first: the next uniforms, if somebody has computed them.
    """

    __slots__ = ("_at", "_blocks", "_buffer", "_index", "_seed", "_start")

    def __init__(self, seed: int, index: int, position: int = 0, first: list[float] | None = None):
        self._seed = seed
        self._index = index
        self._start = position
        self._at = 0
        self._buffer = [] if first is None else first
        self._blocks = PREFETCHED_BLOCKS

    @property
    def position(self) -> int:
        """How many uniforms are used, modulo 2**64."""
        return (self._start + self._at) & _64_BITS

    def random(self) -> float:
        """The next uniform, strictly between 0 and 1."""
        at = self._at
        if at == len(self._buffer):
            self._fill(self.position)
            at = self._at
        self._at = at + 1
        return self._buffer[at]

    def skip_to(self, position: int) -> None:
        """Takes the uniforms before ``position`` as used.

        Raises:
          ValueError: it lies behind.
        """
        if position < self.position:
            raise ValueError(f"the random stream is at {self.position}; it cannot go back to {position}")
        if position - self._start <= len(self._buffer):
            self._at = position - self._start
        else:
            self._start, self._at, self._buffer = position, 0, []

    def _fill(self, position: int) -> None:
        block, odd = divmod(position, 2)
        index = np.array([self._index], dtype=np.uint64)
        self._buffer = uniforms(self._seed, index, block, self._blocks)[0].tolist()
        self._blocks = min(4 * self._blocks, _MOST_BLOCKS)
        self._start, self._at = position - odd, odd


def streams_of(draws: Draws) -> Iterator[PositionedStream]:
    """The streams of a Run's executions in order; the first uniforms of many are computed together."""
    block, odd = divmod(draws.position, 2)
    for start in range(0, draws.count, BATCH):
        places = range(draws.first + start, draws.first + min(start + BATCH, draws.count))
        indices = [place & _64_BITS for place in places]
        rows = uniforms(draws.seed, np.array(indices, dtype=np.uint64), block, PREFETCHED_BLOCKS)[:, odd:].tolist()
        for index, row in zip(indices, rows, strict=True):
            yield PositionedStream(draws.seed, index, draws.position, row)
