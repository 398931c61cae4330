"""Posteriors on disk: a folder of numpy and JSON files. No pickle: opening one never executes code.

Traces are a stored table (see :mod:`ppl_jax.storage`), arrays ``values.npy``, and lists a table of traces without
sites that returned the values. ``posterior.json``, written last, says which. A table that an engine wrote on disk is a
posterior already, and only the weights and ``posterior.json`` are put beside it.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from ppl_jax.empirical.empirical import Empirical
from ppl_jax.errors import DegenerateWeightsError, PPLError, StorageError
from ppl_jax.language.trace import Trace
from ppl_jax.storage import TraceTable, TraceWriter, open_table

FORMAT = "ppl_jax posterior 1"
_DESCRIPTION, _VALUES, _LOG_WEIGHTS, _FAMILIES = "posterior.json", "values.npy", "log_weights.npy", "families.npy"


def save_posterior(posterior: Empirical, path: str | Path) -> None:
    """Writes values, log weights, evidence and number of chains.

    Args:
      posterior: what to save.
      path: folder to make; it may exist if it is empty, or if it is the one that the traces already lie in.

    Raises:
      StorageError: the folder holds something else, cannot be written, or the values cannot be stored without pickle.
    """
    path, values = Path(path), posterior.values
    try:
        if isinstance(values, TraceTable) and values.path is not None and _is_same(values.path, path):
            kind = "traces"
        elif isinstance(values, TraceTable):
            kind = "traces"
            _write_table(values, posterior.log_weights, path)
        elif isinstance(values, np.ndarray):
            kind = "array"
            if values.dtype.hasobject:
                raise StorageError("An array of objects cannot be stored on disk without pickle. Map them to numbers.")
            _make_empty(path)
            np.save(path / _VALUES, values, allow_pickle=False)
        else:
            kind = "results"
            _write_table(_table_of(values), posterior.log_weights, path)
        np.save(path / _LOG_WEIGHTS, posterior.log_weights, allow_pickle=False)
        description = {
            "format": FORMAT,
            "values": kind,
            "log_evidence": posterior.log_evidence if posterior.has_log_evidence else None,
            "num_chains": posterior.num_chains,
            "num_executions": posterior.num_executions,
            "is_chain": posterior.is_chain,
            "info": dict(posterior.info),
        }
        if posterior.families is not None:
            np.save(path / _FAMILIES, np.asarray(posterior.families, dtype=np.int64), allow_pickle=False)
        description["families"] = posterior.families is not None
        unfinished = path / (_DESCRIPTION + ".new")
        unfinished.write_text(json.dumps(description), encoding="utf-8")
        os.replace(unfinished, path / _DESCRIPTION)
    except OSError as error:
        raise StorageError(
            f"The posterior cannot be written to {path}: {error}. Give a folder that can be written to."
        ) from error


def load_posterior(path: str | Path) -> Empirical:
    """Opens a saved posterior; traces and arrays are memory-mapped.

    Args:
      path: folder that ``Empirical.save`` wrote, or that an engine wrote its traces to. Where the engine was cut off,
        the finished traces are there with the weights the engine gave them, and without an evidence.

    Raises:
      StorageError: there is no posterior at ``path``, it is of another format, or damaged.
    """
    path = Path(path)
    try:
        if not (path / _DESCRIPTION).exists():
            return Empirical(*open_table(path))
        description = json.loads((path / _DESCRIPTION).read_bytes())
        if not isinstance(description, dict) or description.get("format") != FORMAT:
            raise StorageError(
                f"{path / _DESCRIPTION} is not of the format '{FORMAT}'. Read it with the version of ppl_jax that wrote"
                " it."
            )
        log_weights = np.load(path / _LOG_WEIGHTS, allow_pickle=False)
        if description["values"] == "array":
            values: Any = _load_array(path / _VALUES)
        else:
            table = open_table(path)[0]
            values = table if description["values"] == "traces" else list(table.results())
        return Empirical(
            values,
            log_weights,
            log_evidence=description["log_evidence"],
            num_chains=description["num_chains"],
            num_executions=description["num_executions"],
            # Files of earlier versions have none of these.
            families=np.load(path / _FAMILIES, allow_pickle=False) if description.get("families") else None,
            is_chain=description.get("is_chain"),
            info=description.get("info"),
        )
    except StorageError:
        raise
    except (OSError, EOFError, ValueError, LookupError, TypeError, PPLError, DegenerateWeightsError) as error:
        raise StorageError(
            f"{path} holds no readable posterior: {error}. It was cut off, changed, or is something else. Restore it "
            "from a copy; if an engine wrote the traces, ppl_jax.storage.open_table may still read them."
        ) from error


def _load_array(path: Path) -> np.ndarray:
    """Memory-mapped, where there is anything to map."""
    try:
        return np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))
    except ValueError:  # an empty array cannot be mapped; a damaged file fails again
        return np.load(path, allow_pickle=False)


def _is_same(first: Path, second: Path) -> bool:
    return second.exists() and first.exists() and first.samefile(second)


def _make_empty(path: Path) -> None:
    path.mkdir(parents=True, exist_ok=True)
    if any(path.iterdir()):
        raise StorageError(f"{path} is not empty. Give a new folder, or remove what is there.")


def _write_table(table: TraceTable, log_weights: np.ndarray, path: Path) -> None:
    table.check_storable()
    writer = TraceWriter(path)
    writer.extend(table, log_weights)
    writer.finish()


def _table_of(values: list[Any]) -> TraceTable:
    writer = TraceWriter()
    for value in values:
        writer.append(Trace((), value, 0.0), 0.0)
    return writer.finish()[0]
