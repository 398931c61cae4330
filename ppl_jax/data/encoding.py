"""How the rows of traces become columns of bytes, and where in them each number is found again.

Within a block, the traces of one layout make a *group*. A row is cut into *columns*: a scalar, or an array that belongs
together. Each column is stored as the smallest of a few formats that gives every number back bit for bit; a column of
which all rows are equal is stored once, one that equals an earlier column not at all. What is read at random must not
have to be unpacked, so there is nothing cleverer: item i of row r of a column stands at base + r * step + i * size.

A group's bytes hold the columns ordered by the size of their numbers, the largest first, each column row by row. The
codes of its columns, one byte each, say all that is needed to find them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from ppl_jax.errors import StorageError
from ppl_jax.language.site import TAG
from ppl_jax.storage.layouts import RowLayout, SiteLayout
from ppl_jax.storage.templates import children, size

# A code is the place of a format in this list. The first is for a column of equal rows; the order is that in the file.
FORMATS = tuple(np.dtype(name) for name in ("<f8", "<f8", "<f4", "<i4", "<f2", "<i2", "u1"))
CONSTANT, FLOAT64, FLOAT32, INT32, FLOAT16, INT16, UINT8 = range(7)
SAME_AS = 16  # codes from here on: the column is that of (code - SAME_AS + 1) columns before
_FARTHEST = 255 - SAME_AS + 1
_LOSSY = {"float64": None, "float32": FLOAT32, "float16": FLOAT16}
_LOOK_FIRST = 32  # rows that show most columns to be no integers, before all are looked at


class Columns(NamedTuple):
    """How the rows of a layout are cut: ``starts`` and ``sizes`` of the columns, int64 (c,).

    The last column is the log weight.
    ``values`` and ``distributions`` give for each site the column of its value and the range of columns of its
    distribution's numbers; None and an empty range where there is none. What has no numbers has no column.
    """

    starts: np.ndarray
    sizes: np.ndarray
    values: tuple[int | None, ...]
    distributions: tuple[range, ...]


def columns_of(layout: RowLayout) -> Columns:
    """The columns of a layout: log importance weight, sites, result, log weight."""
    sizes: list[int] = [1]
    values: list[int | None] = []
    distributions = []
    for site in layout.sites:
        value, distribution, proposal = site_sizes(site)
        values.append(len(sizes) if value and site.kind != TAG else None)
        sizes += value
        distributions.append(range(len(sizes), len(sizes) + len(distribution)))
        sizes += distribution + proposal
    sizes += [*template_sizes(layout.result), 1]
    widths = np.array(sizes, dtype=np.int64)
    return Columns(np.cumsum(widths) - widths, widths, tuple(values), tuple(distributions))


def site_sizes(site: SiteLayout) -> tuple[list[int], list[int], list[int]]:
    """Numbers in each column of a site: of its value, its distribution, its proposal."""
    if site.kind == TAG:
        value = template_sizes(site.value)
    else:
        value = [] if site.value is None else _positive([math.prod(site.value)])
    return value, _positive(distribution_sizes(site.distribution)), _positive(distribution_sizes(site.proposal))


def template_sizes(template: tuple) -> list[int]:
    """Numbers in each column of a tag or result: its scalars and arrays."""
    if template[0] in ("tuple", "list", "dict"):
        return [number for child in children(template) for number in template_sizes(child)]
    return _positive([size(template)])


def distribution_sizes(distribution: Sequence | None) -> list[int]:
    """Numbers in each column of a distribution: a column for each parameter, of a mixture for each component's."""
    if distribution is None:
        return []
    if distribution[0] == "Mixture":
        parts = [distribution_sizes(component) for component in distribution[2]]
        return [math.prod(distribution[1]), *(number for part in parts for number in part)]
    return [math.prod(shape) for shape in distribution[1:]]


def _positive(sizes: list[int]) -> list[int]:
    return [number for number in sizes if number]


def requested_formats(layout: RowLayout, columns: Columns, dtypes: Mapping[str, str]) -> dict[int, int]:
    """Column -> format asked for by the name of its site."""
    found = {}
    for site, value, distribution in zip(layout.sites, columns.values, columns.distributions, strict=True):
        code = _LOSSY[dtypes[site.name]] if site.name is not None and site.name in dtypes else None
        if code is not None and value is not None:
            found.update(dict.fromkeys([value, *distribution], code))
    return found


def check_dtypes(dtypes: Mapping[str, str] | None) -> dict[str, str]:
    """Formats asked for by name, checked.

    Raises:
      ValueError: a format is not one of float64, float32, float16.
    """
    checked = dict(dtypes or {})
    for name, dtype in checked.items():
        if dtype not in _LOSSY:
            raise ValueError(
                f"dtypes[{name!r}] must be one of {', '.join(_LOSSY)}, got {dtype!r}. Numbers that are whole are "
                "stored as small integers without being asked."
            )
    return checked


def encode(numbers: np.ndarray, columns: Columns, requested: Mapping[int, int], place: str) -> tuple[np.ndarray, bytes]:
    """The columns of a group as bytes.

    Args:
      numbers: float64 (n, width), C-contiguous; the rows, log weight last.
      columns: how they are cut.
      requested: column -> format that it is stored in although it does not hold every number exactly.
      place: what is being written, for error messages.

    Returns:
      The codes, uint8 (c,), and the bytes, a multiple of 8.

    Raises:
      StorageError: a number is too large for the format that was asked for.
    """
    bits = numbers.view(np.int64)
    codes = np.zeros(len(columns.sizes), np.uint8)
    varying = np.flatnonzero(np.logical_or.reduceat((bits != bits[0]).any(axis=0), columns.starts))
    own = varying[_find_repeated(bits, columns, varying, requested, codes)]
    codes[own] = _smallest(numbers, columns, own)
    for column, wish in requested.items():
        if 0 < codes[column] < SAME_AS and FORMATS[codes[column]].itemsize > FORMATS[wish].itemsize:
            codes[column] = wish
            _check_range(numbers[:, _part(columns, column)], wish, place)
    data = [numbers[0, np.repeat(codes == CONSTANT, columns.sizes)].tobytes()]
    for code in range(1, len(FORMATS)):
        chosen = np.flatnonzero(codes == code)
        if chosen.size:
            with np.errstate(all="ignore"):
                data += _columns_as_bytes(numbers, columns, chosen, FORMATS[code])
    length = sum(map(len, data))
    return codes, b"".join([*data, bytes(-length % 8)])


def _part(columns: Columns, column: int) -> slice:
    return slice(int(columns.starts[column]), int(columns.starts[column] + columns.sizes[column]))


def _find_repeated(
    bits: np.ndarray, columns: Columns, varying: np.ndarray, requested: Mapping[int, int], codes: np.ndarray
) -> np.ndarray:
    """Writes the codes of columns that equal an earlier one; gives which of the varying ones do not, bool (v,)."""
    own = np.ones(len(varying), bool)
    if len(varying) < 2:
        return own
    prints = np.add.reduceat(bits.sum(axis=0), columns.starts)[varying].tolist()
    if len(set(prints)) == len(prints):
        return own
    seen: dict[int, int] = {}
    for place, (column, found) in enumerate(zip(varying.tolist(), prints, strict=True)):
        other = seen.get(found)
        if (
            other is not None
            and column - other <= _FARTHEST
            and requested.get(column) == requested.get(other)
            and np.array_equal(bits[:, _part(columns, column)], bits[:, _part(columns, other)])
        ):
            codes[column] = SAME_AS + column - other - 1
            own[place] = False
        seen[found] = column
    return own


def _columns_as_bytes(numbers: np.ndarray, columns: Columns, chosen: np.ndarray, dtype: np.dtype) -> list[bytes]:
    """The chosen columns one after the other, each row by row."""
    if np.all(columns.sizes[chosen] == 1):
        return [np.ascontiguousarray(numbers.T[columns.starts[chosen]], dtype).tobytes()]
    return [numbers[:, _part(columns, column)].astype(dtype).tobytes() for column in chosen.tolist()]


def _smallest(numbers: np.ndarray, columns: Columns, chosen: np.ndarray) -> np.ndarray:
    """For each of the chosen columns the smallest format that gives back every bit, uint8 (k,)."""
    codes = np.full(len(chosen), FLOAT64, np.uint8)
    if len(chosen) == 0:
        return codes
    sizes = columns.sizes[chosen]
    starts = np.cumsum(sizes) - sizes
    of_number = np.repeat(np.arange(len(chosen)), sizes)
    place = np.repeat(columns.starts[chosen] - starts, sizes) + np.arange(len(of_number))
    with np.errstate(all="ignore"):
        first = numbers[:_LOOK_FIRST, place]
        for code in (FLOAT32, INT32):
            hopeful = np.logical_and.reduceat(_survives(first, FORMATS[code]), starts)
            for k in np.flatnonzero(hopeful).tolist():
                part = numbers[:, _part(columns, int(chosen[k]))]
                if len(numbers) > _LOOK_FIRST and not _survives(part, FORMATS[code]).all():
                    continue
                codes[k] = _integer_format(part) if code == INT32 else code
    return codes


def _integer_format(column: np.ndarray) -> int:
    """The smallest integer format of a column of integers below 2**31."""
    low, high = column.min(), column.max()
    return UINT8 if low >= 0 and high <= 255 else INT16 if low >= -(2**15) and high < 2**15 else INT32


def _survives(column: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """For which numbers of a row conversion there and back changes no bit (-0.0 and NaN included), bool (size,)."""
    back = column.astype(dtype).astype(np.float64)
    survives: np.ndarray = (back.view(np.int64) == np.ascontiguousarray(column).view(np.int64)).all(axis=0)
    return survives


def _check_range(column: np.ndarray, code: int, place: str) -> None:
    largest = float(np.max(np.abs(column), initial=0.0, where=np.isfinite(column)))
    if largest > float(np.finfo(FORMATS[code]).max):
        raise StorageError(
            f"{place}: the number {largest:g} is too large for {FORMATS[code].name}, which was asked for. Ask for a "
            "wider format in dtypes=..."
        )


class Places(NamedTuple):
    """Where columns of groups are: bytes from the start of the file, bytes from row to row, formats; of one shape."""

    base: np.ndarray
    step: np.ndarray
    code: np.ndarray


def locate(starts: np.ndarray, rows: np.ndarray, counts: np.ndarray, codes: np.ndarray, sizes: np.ndarray) -> Places:
    """Where the columns of groups are, those of one group after those of the other.

    Args:
      starts: where the bytes of each group begin, int64 (g,).
      rows: rows of each group, int64 (g,).
      counts: columns of each group, int64 (g,); none is 0.
      codes: of all columns, uint8 (c,).
      sizes: numbers in each column, int64 (c,).
    """
    group = np.repeat(np.arange(len(counts)), counts)
    last = np.cumsum(counts) - 1
    own = np.where(codes < len(FORMATS), codes, CONSTANT)
    lengths = _ITEM[own] * sizes
    step = np.where(own == CONSTANT, 0, lengths)
    shared = codes >= SAME_AS
    lengths = np.where(shared, 0, np.where(own == CONSTANT, lengths, lengths * rows[group]))
    base = np.zeros(len(codes), np.int64)
    position = starts.astype(np.int64)
    for code in np.flatnonzero(np.bincount(own, minlength=1)).tolist():
        chosen = own == code
        ends = np.cumsum(np.where(chosen, lengths, 0))
        totals = np.diff(ends[last], prepend=0)
        before = position - (ends[last] - totals)
        base = np.where(chosen, before[group] + ends - lengths, base)
        position = position + totals
    if not shared.any():
        return Places(base, step, own)
    target = np.arange(len(codes)) - np.where(shared, codes.astype(np.int64) - SAME_AS + 1, 0)
    while not np.array_equal(further := target[target], target):  # an earlier column may be that of one before it
        target = further
    return Places(base[target], step[target], own[target])


_ITEM = np.array([dtype.itemsize for dtype in FORMATS], dtype=np.int64)


def encoded_length(rows: int, codes: np.ndarray, sizes: np.ndarray) -> int:
    """Bytes of a group, a multiple of 8."""
    own = np.where(codes < len(FORMATS), codes, CONSTANT)
    lengths = _ITEM[own] * sizes * np.where(own == CONSTANT, 1, rows)
    length = int(lengths[codes < SAME_AS].sum())
    return length + -length % 8
