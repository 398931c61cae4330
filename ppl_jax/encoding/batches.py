"""Batches: traces of any types as padded arrays of few shapes, ready for one compiled training step.

A batch is a grid of rows by columns in which the tokens of traces stand one behind the other, each trace wholly in one
row, as parcels in lorries: little of the grid is empty although lengths differ, and a shape serves every mixture of
trace types. A minibatch is therefore simply a number of traces drawn at random, its mean loss is an unbiased estimate,
and nothing is compiled for a trace type, only for a shape of the grid. Shapes are of a coarse scale (``Shapes``), and
one that was compiled is preferred to a slightly better one that was not.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from ppl_jax.encoding.coordinates import COUNT, LINE, Frames
from ppl_jax.encoding.tokens import IMPOSSIBLE, Tokens

BLOCK = 16  # cells of one call site that stand together
_FARTHEST = 1e6  # coordinates beyond are cut, so that float32 squares them

Array = Any  # of numpy, or of JAX inside a compiled step


class Batch(NamedTuple):
    """A padded batch: B traces whose tokens stand in a grid of R rows by T.

    Attributes:
      observations: name -> float32 (B, *shape); ``presence``: float32 (B, observations).
      num_traces: how many of the B are traces, float32 ().
      trace: int32 (R, T), the trace of a token; ``start``: bool (R, T), whether it is the trace's first.
      mask: float32 (R, T), 1 for a token, 0 for padding.
      kind, site, family, instance, element: int32 (R, T).
      place: float32 (R, T, 2), what a token's prior looks like: asinh of its shift, log of its scale.
      u: float32 (R, T), coordinate of the value; ``bounds``: float32 (R, T, 2), coordinates of the prior's bounds.
      half_bin: float32 (R, T), half the distance of neighbouring integers, in coordinates.
      log_prior: float32 (R, T); ``log_probs``: float32 (R, T, categories), of no width where there are no categories.
      block_site: int32 (blocks,), the call site of each block of BLOCK cells; ``block_cells``: int32
        (blocks * BLOCK,), the cells that stand in them, R * T for none; ``cell_place``: int32 (R, T), where each cell
        stands. Cells of one call site stand together, so that its matrix is read once for all of them.
    """

    observations: Mapping[str, Array]
    presence: Array
    num_traces: Array
    trace: Array
    start: Array
    mask: Array
    kind: Array
    site: Array
    family: Array
    instance: Array
    element: Array
    place: Array
    u: Array
    bounds: Array
    half_bin: Array
    log_prior: Array
    log_probs: Array
    block_site: Array
    block_cells: Array
    cell_place: Array


class Shapes:
    """The shapes of grids in use: few, because a training step is compiled for each.

    A new shape is taken from the scale 1, 2, 3, 4, 6, 8, 12, 16, ... for lengths and a finer one for rows; a shape that
    is in use already is preferred if it holds the batch in at most ``slack`` times the tokens, a batch that is not full
    counting as if it were.
    """

    def __init__(self, slack: float = 1.4):
        self.slack = slack
        self.known: set[tuple[int, int]] = set()

    def reserve(self, lengths: np.ndarray, size: int) -> None:
        """Takes a shape into use for batches of ``size`` traces like those of these lengths, (traces,).

        Where lengths vary it has room for traces a quarter longer than any of these, and for a few more tokens, since
        more traces are still to come.
        """
        longest = max(1, int(lengths.max(initial=1)))
        varying = len(lengths) > 0 and int(lengths.min()) < longest
        width = rounded_length(-(-5 * longest // 4) if varying else longest)
        rows = max((pack(lengths[start:stop], width)[0] for start, stop in split_points(len(lengths), size)), default=1)
        self.known.add((rounded_rows(-(-21 * rows // 20) if varying else rows), width))

    def arrange(self, lengths: np.ndarray, size: int) -> tuple[tuple[int, int], np.ndarray, np.ndarray]:
        """The shape for a batch, at most ``size`` traces of these lengths, (traces,).

        Returns it, and the row and first column of each trace, int64 (traces,).
        """
        longest = max(1, int(lengths.max(initial=1)))
        best = rounded_length(longest)
        arranged = {best: pack(lengths, best)}
        shape = (rounded_rows(arranged[best][0]), best)
        limit = self.slack * shape[0] * shape[1] * size / max(1, len(lengths))
        fitting = []
        for rows, length in self.known:
            if length < longest or rows * length > limit:
                continue
            if length not in arranged:
                arranged[length] = pack(lengths, length)
            if arranged[length][0] <= rows:
                fitting.append((rows * length, (rows, length)))
        if fitting:
            shape = min(fitting)[1]
        self.known.add(shape)
        _, row, first = arranged[shape[1]]
        return shape, row, first


def rounded_length(length: int) -> int:
    """The next of 1, 2, 3, 4, 6, 8, 12, 16, 24, ..."""
    power = 1 << (length - 1).bit_length()
    return 3 * power // 4 if power >= 4 and length <= 3 * power // 4 else power


def rounded_rows(rows: int) -> int:
    """The next number of rows: 8, 10, 12, 14, 16, 20, 24, 28, 32, 40, ..."""
    if rows <= 8:
        return 8
    step = 1 << ((rows - 1).bit_length() - 3)
    return -(-rows // step) * step


def pack(lengths: np.ndarray, width: int) -> tuple[int, np.ndarray, np.ndarray]:
    """Packs traces into rows of ``width`` tokens: best fit, longest first.

    Returns the number of rows, and the row and first column of every trace.
    """
    count = len(lengths)
    if count == 0 or (lengths == lengths[0]).all():
        each = width // max(1, int(lengths[0])) if count else 1
        number = np.arange(count)
        return -(-count // each), number // each, (number % each) * (int(lengths[0]) if count else 0)
    row, first = np.zeros(count, np.int64), np.zeros(count, np.int64)
    open_rows: list[list[int]] = [[] for _ in range(width + 1)]  # by tokens left
    occupied = 0  # bit k: there are rows with k tokens left
    used = 0
    for trace in np.argsort(-lengths, kind="stable").tolist():
        length = int(lengths[trace])
        fitting = occupied >> length
        if fitting:
            left = length + (fitting & -fitting).bit_length() - 1
            place = open_rows[left].pop()
            if not open_rows[left]:
                occupied &= ~(1 << left)
        else:
            place, left = used, width
            used += 1
        row[trace], first[trace] = place, width - left
        left -= length
        open_rows[left].append(place)
        occupied |= 1 << left
    return used, row, first


def make_batch(
    tokens: Tokens,
    observations: Mapping[str, np.ndarray],
    presence: np.ndarray,
    shapes: Shapes,
    size: int,
    categories: int,
    capacity: int,
) -> Batch:
    """The padded batch of at most ``size`` traces.

    Args:
      tokens, observations, presence: what ``Encoder.encode`` gave.
      shapes: the shapes in use.
      size: B.
      categories: the width of ``log_probs``, 0 for none.
      capacity: rows of the tables of call sites.
    """
    count = len(tokens.lengths)
    (rows, length), row, first = shapes.arrange(tokens.lengths, size)
    firsts = np.cumsum(tokens.lengths) - tokens.lengths
    trace = np.repeat(np.arange(count), tokens.lengths)
    cells = row[trace] * length + first[trace] + np.arange(len(trace)) - firsts[trace]
    frames = tokens.frames
    scale = frames.scale

    def grid(values: np.ndarray, dtype: Any = np.float32, fill: float = 0) -> np.ndarray:
        out = np.full((rows * length, *values.shape[1:]), fill, dtype)
        out[cells] = values
        return out.reshape(rows, length, *values.shape[1:])

    start = np.zeros(len(trace), bool)
    start[firsts[tokens.lengths > 0]] = True
    log_probs = np.full((rows * length, categories), IMPOSSIBLE, np.float32)
    if categories and tokens.log_probs is not None:
        log_probs[cells, : tokens.log_probs.shape[1]] = tokens.log_probs
    padded = {name: _pad(values, size) for name, values in observations.items()}
    site = grid(tokens.site, np.int32)
    return Batch(
        padded,
        _pad(presence, size),
        np.float32(count),
        grid(trace, np.int32),
        grid(start, bool),
        grid(np.ones(len(trace)), np.float32),
        grid(frames.kind, np.int32),
        site,
        grid(tokens.family, np.int32),
        grid(tokens.instance, np.int32),
        grid(tokens.element, np.int32),
        grid(places(frames)),
        grid(np.clip(tokens.u, -_FARTHEST, _FARTHEST)),
        grid(unit_bounds(frames)),
        grid(0.5 / scale),
        grid(np.clip(tokens.log_prior, -_FARTHEST, _FARTHEST)),
        log_probs.reshape(rows, length, categories),
        *_blocks(site, capacity),
    )


def _blocks(site: np.ndarray, capacity: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """``block_site``, ``block_cells`` and ``cell_place`` of a grid of call sites; as many blocks as it could need."""
    flat = site.ravel()
    counts = np.bincount(flat, minlength=capacity)
    blocks = -(-counts // BLOCK)
    most = -(-len(flat) // BLOCK) + min(capacity, len(flat))
    order = np.argsort(flat, kind="stable")
    ordered = flat[order]
    within = np.arange(len(flat)) - (np.cumsum(counts) - counts)[ordered]
    place = np.empty(len(flat), np.int32)
    place[order] = (np.cumsum(blocks) - blocks)[ordered] * BLOCK + within
    cells = np.full(most * BLOCK, len(flat), np.int32)
    cells[place] = np.arange(len(flat))
    block_site = np.zeros(most, np.int32)
    block_site[: blocks.sum()] = np.repeat(np.arange(len(blocks)), blocks)
    return block_site, cells, place.reshape(site.shape)


def places(frames: Frames) -> np.ndarray:
    """What a network sees of a prior: asinh of its shift and log of its scale, float32 (n, 2)."""
    return np.stack([np.arcsinh(frames.shift), np.log(frames.scale)], axis=-1).astype(np.float32)


def unit_bounds(frames: Frames) -> np.ndarray:
    """The prior's bounds in coordinates, float64 (n, 2); infinite on the half-line, whose logarithm has none.

    Bounds farther than a million coordinates are as good as none.
    """
    bounded = (frames.kind == LINE) | (frames.kind == COUNT)
    low = np.where(bounded, (frames.low - frames.shift) / frames.scale, -np.inf)
    high = np.where(bounded, (frames.high - frames.shift) / frames.scale, np.inf)
    bounds = np.stack([low, high], axis=-1)
    return np.where(np.abs(bounds) > _FARTHEST, np.copysign(np.inf, bounds), bounds)


def _pad(values: np.ndarray, size: int) -> np.ndarray:
    if len(values) == size:
        return values
    out = np.zeros((size, *values.shape[1:]), values.dtype)
    out[: len(values)] = values
    return out


def split_points(count: int, size: int) -> list[tuple[int, int]]:
    """(start, stop) of consecutive parts of at most ``size`` of ``count``."""
    return list(pairwise([*range(0, count, size), count]))
