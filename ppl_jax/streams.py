"""Counter-based random streams: the only source of randomness on the host.

A stream is named by ``(seed, index)`` and yields uniforms strictly inside (0, 1). Execution number *i* of a run with
seed *s* draws from stream *(s, i)*, wherever it runs, so results do not depend on how work is divided. The generator
is Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC11), chosen because any block of any
stream can be computed without the ones before it, because it is short in every language, and because many streams
vectorise together: the first uniforms of a whole batch of executions come from one numpy expression.

Every host sampler in :mod:`ppl_jax.distributions` is an explicit algorithm over :meth:`Stream.random`.
"""

from __future__ import annotations

import secrets
from collections import deque
from collections.abc import Iterator
from itertools import chain, islice
from operator import length_hint
from typing import Any

import numpy as np

from ppx.streams import BATCH, PREFETCHED_BLOCKS, pair, philox, uniforms

FEW_BLOCKS = 2  # computed first after a move: who moves, moves again soon
_LOW = 0xFFFFFFFF


def _few_uniforms(seed: int, index: int, first_block: int, num_blocks: int) -> list[float]:
    """What ``uniforms`` gives for one stream, without numpy: faster for up to a dozen blocks."""
    found: list[float] = []
    for block in range(first_block, first_block + num_blocks):
        found += pair(seed, block, index)
    return found


def _chunks(seed: int, index: int, place: list[Any]) -> Iterator[Iterator[float]]:
    """The stream in pieces of growing size.

    ``place``: what is left of the present piece, where in the stream it ends, and how many blocks the next one has.
    """
    if place[1]:
        yield place[0]
    where = np.array([index], dtype=np.uint64)
    while True:
        _, start, size = place
        block, odd = divmod(start, 2)
        small = size < PREFETCHED_BLOCKS
        chunk = _few_uniforms(seed, index, block, size) if small else uniforms(seed, where, block, size)[0].tolist()
        place[:] = iter(chunk[odd:]), 2 * (block + size), min(4 * size, 2048)
        yield place[0]


class Stream:
    """The stream of uniforms named ``(seed, index)``.

    ``seed`` and ``index`` are integers in [0, 2**64). ``random()`` returns the next uniform as a Python float, so a
    stream can stand wherever ``random.Random`` or ``numpy.random.Generator`` is asked only for uniforms.
    """

    __slots__ = ("_place", "index", "random", "seed")
    _place: list[Any]  # see _chunks

    def __init__(self, seed: int, index: int = 0, _first: list[float] | None = None):
        self.seed = seed
        self.index = index
        first = _first or []
        self._place = [iter(first), len(first), PREFETCHED_BLOCKS]
        self.random = chain.from_iterable(_chunks(seed, index, self._place)).__next__

    @property
    def position(self) -> int:
        """How many uniforms of the stream are used."""
        return self._place[1] - length_hint(self._place[0])

    def move_to(self, position: int) -> None:
        """Goes to another place of the stream."""
        left, end, _ = self._place
        ahead = position - self.position
        if 0 <= ahead <= end - self.position:
            next(islice(left, ahead, ahead), None)
        else:
            deque(left, maxlen=0)  # so that `random` asks for the piece that starts there
            self._place[1:] = position, FEW_BLOCKS

    def __repr__(self) -> str:
        return f"Stream(seed={self.seed}, index={self.index})"


class CountedStream:
    """The stream ``(seed, index)`` from its uniform number ``position`` on; it counts, and can be moved.

    So two sides may draw from one stream in turns, each telling the other how far it came. A move to a place nearby,
    whose uniforms are known already, costs nothing.
    """

    __slots__ = ("_at", "_blocks", "_buffer", "_start", "index", "seed")

    def __init__(self, seed: int, index: int, position: int = 0, _first: list[float] | None = None):
        self.seed = seed
        self.index = index
        self._start = position  # of the buffer in the stream
        self._at = 0  # in the buffer
        self._buffer: list[float] = [] if _first is None else _first
        self._blocks = PREFETCHED_BLOCKS

    @property
    def position(self) -> int:
        """How many uniforms of the stream are used."""
        return self._start + self._at

    def random(self) -> float:
        """The next uniform."""
        if self._at == len(self._buffer):
            self._fill()
        at = self._at
        self._at = at + 1
        return self._buffer[at]

    def move_to(self, position: int) -> None:
        """Goes to another place of the stream."""
        if 0 <= position - self._start <= len(self._buffer):
            self._at = position - self._start
        else:
            self._start, self._at, self._buffer, self._blocks = position, 0, [], FEW_BLOCKS

    def _fill(self) -> None:
        block, odd = divmod(self.position, 2)
        if self._blocks <= PREFETCHED_BLOCKS:
            self._buffer = _few_uniforms(self.seed, self.index, block, self._blocks)
        else:
            where = np.array([self.index], dtype=np.uint64)
            self._buffer = uniforms(self.seed, where, block, self._blocks)[0].tolist()
        self._blocks = min(4 * self._blocks, 2048)
        self._start, self._at = 2 * block, odd


def streams(seed: int, start: int, stop: int) -> Iterator[Stream]:
    """Streams ``(seed, start) ... (seed, stop - 1)`` in order, their first uniforms computed batch by batch."""
    for index, row in _first_uniforms(seed, start, stop):
        yield Stream(seed, index, row)


def counted_streams(seed: int, start: int, stop: int) -> Iterator[CountedStream]:
    """What ``streams`` gives, as streams that count."""
    for index, row in _first_uniforms(seed, start, stop):
        yield CountedStream(seed, index, 0, row)


def _first_uniforms(seed: int, start: int, stop: int) -> Iterator[tuple[int, list[float]]]:
    for low in range(start, stop, BATCH):
        high = min(low + BATCH, stop)
        first = uniforms(seed, np.arange(low, high, dtype=np.uint64), 0, PREFETCHED_BLOCKS).tolist()
        yield from zip(range(low, high), first, strict=True)


def check_seed(seed: int | None) -> int:
    """``seed`` itself if it is an integer in [0, 2**64), a fresh one from the operating system if it is None."""
    if seed is None:
        return secrets.randbits(64)
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or not 0 <= seed < 2**64:
        raise ValueError(f"seed must be None or an integer in [0, 2**64), got {seed!r}")
    return int(seed)


def derive_seed(seed: int, *labels: int) -> int:
    """A seed for an independent purpose (a chain, a resampling step), a function of ``seed`` and the labels alone."""
    for label in labels:
        label, seed = int(label), int(seed)
        words = philox((label & _LOW, label >> 32, 0x5EED, _LOW), (seed & _LOW, seed >> 32))
        seed = words[0] | words[1] << 32
    return seed
