"""Writing traces into a table, in memory or on disk.

On disk a table is a folder: ``layouts.jsonl`` (one RowLayout a line, written before the first row that uses it),
``rows.f64`` (the heap, little-endian float64), ``index.bin`` (start, layout and log weight of each trace). All three are
only ever appended to, so a table cut off anywhere is readable up to the last whole entry.
"""

from __future__ import annotations

import json
from array import array
from pathlib import Path
from typing import IO, Any

import numpy as np

from ppl_jax.errors import StorageError
from ppl_jax.primitives import FACTOR, TAG
from ppl_jax.storage.layouts import RowLayout, SiteLayout
from ppl_jax.storage.tables import TraceTable
from ppl_jax.storage.templates import flatten
from ppl_jax.traces import Trace

FORMAT = "ppl_jax trace table 1"
INDEX = np.dtype([("start", "<i8"), ("kind", "<i8"), ("log_weight", "<f8")])
_FLUSH_AT = 1 << 17  # numbers held back before they are written: 1 MiB


class TraceWriter:
    """Appends traces; ``finish()`` gives the table and the log weights.

    Args:
      path: folder to make (it must not hold a table yet); None keeps everything in memory.
    """

    def __init__(self, path: str | Path | None = None):
        self._known: dict[tuple, int] = {}
        self._layouts: list[RowLayout] = []
        self._heap = array("d")
        self._starts, self._kinds, self._weights = array("q"), array("q"), array("d")
        self._written = 0
        self._count = 0
        self._objects: list[Any] = []
        self._path = None if path is None else Path(path)
        self._files: tuple[IO[str], IO[bytes], IO[bytes]] | None = None
        if self._path is not None:
            self._files = _create(self._path)

    def __len__(self) -> int:
        return self._count

    def append(self, trace: Trace, log_weight: float) -> None:
        """Stores ``trace`` with the given log weight."""
        row: list[float] = [trace.log_importance_weight]
        keep = self._keep if self._path is None else None
        sites: list[tuple] = []
        for site in trace.sites:
            kind, distribution, proposal = site.kind, site.distribution, site.proposal
            template: Any = None
            layout = None if distribution is None else distribution.layout()
            if kind is TAG:
                template = flatten(site.value, row, keep)
            elif kind is not FACTOR:
                template = distribution.shape
                if template == ():
                    row.append(site.value)
                else:
                    row.extend(np.asarray(site.value, dtype=np.float64).ravel().tolist())
            if distribution is not None:
                row.extend(distribution.numbers())
            if proposal is not None:
                row.extend(proposal.numbers())
            sites.append(
                (
                    kind,
                    site.address,
                    site.instance,
                    site.name,
                    site.control,
                    site.observed,
                    template,
                    layout,
                    None if proposal is None else proposal.layout(),
                )
            )
        key = (tuple(sites), flatten(trace.result, row, keep))
        kind_index = self._known.get(key)
        if kind_index is None:
            kind_index = self._add_layout(key)
        self._add_entry(self._written + len(self._heap), kind_index, log_weight)
        self._heap.extend(row)
        if self._files is not None and len(self._heap) >= _FLUSH_AT:
            self._flush()

    def repeat(self, log_weight: float) -> None:
        """Stores the last trace once more (a rejected MCMC step); its row is shared."""
        self._add_entry(self._last[0], self._last[1], log_weight)

    def finish(self) -> tuple[TraceTable, np.ndarray]:
        """The table and the log weights, float64 (n,). Nothing can be appended afterwards."""
        if self._files is not None and self._path is not None:
            self._flush()
            for file in self._files:
                file.close()
            return open_table(self._path)
        starts, kinds = np.frombuffer(self._starts, np.int64), np.frombuffer(self._kinds, np.int64)
        heap = np.frombuffer(self._heap, np.float64)
        table = TraceTable(self._layouts, heap, starts, kinds.astype(np.int32), self._objects)
        return table, np.frombuffer(self._weights, np.float64)

    def _keep(self, value: Any) -> int:
        self._objects.append(value)
        return len(self._objects) - 1

    def _add_entry(self, start: int, kind: int, log_weight: float) -> None:
        self._last = (start, kind)
        self._starts.append(start)
        self._kinds.append(kind)
        self._weights.append(log_weight)
        self._count += 1

    def _add_layout(self, key: tuple) -> int:
        sites, result = key
        layout = RowLayout(tuple(SiteLayout(*site) for site in sites), result)
        self._known[key] = len(self._layouts)
        self._layouts.append(layout)
        if self._files is not None:
            self._files[0].write(json.dumps(layout.to_json(), separators=(",", ":")) + "\n")
        return self._known[key]

    def _flush(self) -> None:
        assert self._files is not None
        layouts, rows, index = self._files
        layouts.flush()
        self._heap.tofile(rows)
        rows.flush()
        entries = np.empty(len(self._starts), INDEX)
        entries["start"], entries["kind"], entries["log_weight"] = self._starts, self._kinds, self._weights
        index.write(entries.tobytes())
        index.flush()
        self._written += len(self._heap)
        self._heap, self._starts, self._kinds, self._weights = array("d"), array("q"), array("q"), array("d")


def _create(path: Path) -> tuple[IO[str], IO[bytes], IO[bytes]]:
    path.mkdir(parents=True, exist_ok=True)
    if any(path.iterdir()):
        raise StorageError(f"{path} is not empty. Give a new folder, or remove what is there.")
    (path / "format").write_text(FORMAT)
    return open(path / "layouts.jsonl", "w"), open(path / "rows.f64", "wb"), open(path / "index.bin", "wb")


def open_table(path: str | Path) -> tuple[TraceTable, np.ndarray]:
    """Opens a table on disk by memory map: the table and the log weights.

    Entries whose row or layout was cut off are left out.

    Raises:
      StorageError: there is no table at ``path``.
    """
    path = Path(path)
    try:
        if (path / "format").read_text() != FORMAT:
            raise StorageError(f"{path} holds another format than '{FORMAT}'. Read it with the version that wrote it.")
        lines = (path / "layouts.jsonl").read_text().split("\n")[:-1]
    except FileNotFoundError as error:
        raise StorageError(f"{path} is not a folder of stored traces: {error.filename} is missing.") from error
    layouts = [RowLayout.from_json(json.loads(line)) for line in lines]
    heap = _map(path / "rows.f64", np.dtype("<f8"))
    index = _map(path / "index.bin", INDEX)
    starts, kinds = np.array(index["start"]), np.array(index["kind"])
    widths = np.array([layout.width for layout in layouts] + [0], dtype=np.int64)
    whole = (kinds < len(layouts)) & (starts + widths[np.minimum(kinds, len(layouts))] <= len(heap))
    table = TraceTable(layouts, heap, starts[whole], kinds[whole].astype(np.int32), [])
    return table, np.array(index["log_weight"])[whole]


def _map(path: Path, dtype: np.dtype) -> np.ndarray:
    """Memory map of all whole entries of a file."""
    count = path.stat().st_size // dtype.itemsize if path.exists() else 0
    return np.memmap(path, dtype=dtype, mode="r", shape=(count,)) if count else np.empty(0, dtype)
