"""Traces of GUM-M and of programs of many types, made by numpy as fast as arrays can be filled."""

import math
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import programs

import ppl_jax as ppl
from ppl_jax.storage import RowLayout, TraceTable

ACCEPTED = math.pi / 4  # share of pairs of uniforms in the disc
LONGEST = 24  # pairs; one trace in 10**16 needs more


def gum_marsaglia_layouts() -> list[RowLayout]:
    """Row layouts of GUM-M with 1, 2, ... pairs of uniforms, as the program itself gives them."""
    traces = ppl.prior(programs.gum_marsaglia, 50, seed=0, progress=False).values
    shortest = min(traces.layouts, key=lambda layout: layout.width)
    pair, rest = shortest.sites[:2], shortest.sites[2:]
    layouts = []
    for pairs in range(1, LONGEST + 1):
        draws = tuple(site._replace(instance=number) for number in range(1, pairs + 1) for site in pair)
        layouts.append(RowLayout(draws + rest, shortest.result))
    return layouts


def gum_marsaglia_table(count: int, rng: np.random.Generator, layouts: list[RowLayout]) -> TraceTable:
    """``count`` traces of GUM-M, drawn by the same algorithm."""
    pairs = np.minimum(rng.geometric(ACCEPTED, count), LONGEST)
    widths = np.array([layout.width for layout in layouts])[pairs - 1]
    ends = np.cumsum(widths)
    starts = ends - widths
    heap = np.empty(int(ends[-1]))
    for number in np.unique(pairs).tolist():
        own = np.flatnonzero(pairs == number)
        heap[starts[own, None] + np.arange(layouts[number - 1].width)] = _rows(number, len(own), rng)
    return TraceTable(layouts, heap, starts, (pairs - 1).astype(np.int32), [])


def _rows(pairs: int, count: int, rng: np.random.Generator) -> np.ndarray:
    points = np.empty((count, pairs, 2))
    for number in range(pairs):
        points[:, number] = _outside(count, rng) if number < pairs - 1 else _inside(count, rng)
    x, square = points[:, -1, 0], np.square(points[:, -1]).sum(axis=1)
    mean = 1.0 + math.sqrt(5.0) * x * np.sqrt(-2.0 * np.log(square) / square)
    rows = np.zeros((count, 6 * pairs + 8))
    rows[:, 1 : 6 * pairs + 1] = np.stack(np.broadcast_arrays(points, -1.0, 1.0), axis=-1).reshape(count, -1)
    for first in (6 * pairs + 1, 6 * pairs + 4):
        rows[:, first] = rng.normal(mean, math.sqrt(2.0))
        rows[:, first + 1], rows[:, first + 2] = mean, math.sqrt(2.0)
    rows[:, -1] = mean
    return rows


def _inside(count: int, rng: np.random.Generator) -> np.ndarray:
    radius, angle = np.sqrt(rng.uniform(size=count)), rng.uniform(0.0, 2 * np.pi, count)
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)


def _outside(count: int, rng: np.random.Generator) -> np.ndarray:
    """Points of the square that are not in the disc."""
    found = np.empty((0, 2))
    while len(found) < count:
        points = rng.uniform(-1.0, 1.0, (8 * (count - len(found)) + 8, 2))
        found = np.concatenate([found, points[np.square(points).sum(axis=1) >= 1.0]])
    return found[:count]


def gum_marsaglia_tables(count: int, size: int, seed: int = 0) -> Iterator[TraceTable]:
    """``count`` traces of GUM-M, ``size`` at a time."""
    rng, layouts = np.random.default_rng(seed), gum_marsaglia_layouts()
    for low in range(0, count, size):
        yield gum_marsaglia_table(min(size, count - low), rng, layouts)


def many_types_layouts(types: int) -> list[RowLayout]:
    """Row layouts of ``types`` trace types: GUM-M of one pair, and eight uniforms at addresses of their own."""
    shortest = gum_marsaglia_layouts()[0]
    draw, rest = shortest.sites[0], shortest.sites[2:]
    layouts = []
    for number in range(types):
        digits = [(number // 10**place) % 10 for place in range(8)]
        draws = tuple(draw._replace(address=f"program:branch_{place}:{digit}:4") for place, digit in enumerate(digits))
        layouts.append(RowLayout(draws + rest, shortest.result))
    return layouts


def many_types_table(count: int, rng: np.random.Generator, layouts: list[RowLayout]) -> TraceTable:
    """``count`` traces, each of a type drawn at random."""
    width = layouts[0].width
    rows = rng.uniform(-1.0, 1.0, (count, width))
    rows[:, 0] = 0.0
    rows[:, 2:25:3], rows[:, 3:25:3] = -1.0, 1.0
    rows[:, [27, 30]] = math.sqrt(2.0)
    rows[:, 26] = rows[:, 29] = rows[:, 31]
    kinds = rng.integers(len(layouts), size=count).astype(np.int32)
    return TraceTable(layouts, rows.reshape(-1), np.arange(count, dtype=np.int64) * width, kinds, [])
