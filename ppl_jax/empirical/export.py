"""Posteriors as xarray and ArviZ objects, for the tables, diagnostics and plots of others."""

from __future__ import annotations

from typing import Any

import numpy as np

from ppl_jax.empirical.empirical import Empirical
from ppl_jax.errors import MissingPackageError, PPLError
from ppl_jax.language.site import FACTOR, SAMPLE, TAG
from ppl_jax.storage import RowLayout, TraceTable, TraceWriter
from ppl_jax.storage.densities import log_joint
from ppl_jax.storage.layouts import SiteLayout

Key = tuple[str, int]  # name and occurrence


def to_xarray(posterior: Empirical, seed: int | None = None) -> Any:
    """The posterior draws as an xarray.Dataset with dimensions ``chain`` and ``draw``.

    One variable for each named latent whose values are numbers of one shape in all traces; a name that a trace meets
    several times gives ``name[1]``, ``name[2]``, ... What not all traces have is listed in the attribute
    ``left_out``. Values that are numbers already become the variable ``value``. Chains that are longer by one lose
    their last draw.

    Args:
      posterior: of traces or numbers. If its weights are not equal it is resampled first, to as many samples.
      seed: of the resampling, an integer in [0, 2**64). Default: from the operating system.

    Raises:
      MissingPackageError: xarray is not installed.
      PPLError: the values are neither traces nor numbers.
    """
    _require("xarray")
    return _posterior_group(_equally_weighted(posterior, seed)[0])


def to_arviz(posterior: Empirical, seed: int | None = None) -> Any:
    """ArviZ's object: InferenceData, or from ArviZ 1 on an xarray.DataTree.

    The groups are ``posterior`` (see :func:`to_xarray`); ``sample_stats`` with ``lp``, the log joint density of each
    trace, and ``log_weight``, the log weight it had before resampling; ``observed_data``, the named observations that
    are the same in all traces, if there are any.

    Args:
      posterior: of traces or numbers. If its weights are not equal it is resampled first, to as many samples.
      seed: of the resampling, an integer in [0, 2**64). Default: from the operating system.

    Raises:
      MissingPackageError: ArviZ is not installed.
      PPLError: the values are neither traces nor numbers.
    """
    arviz, xarray = _require("arviz"), _require("xarray")
    equal, log_weights = _equally_weighted(posterior, seed)
    statistics = {"log_weight": log_weights}
    groups = {"posterior": _posterior_group(equal)}
    if isinstance(equal.values, TraceTable):
        statistics["lp"] = log_joint(equal.values)
        observed = _observed_group(equal.values)
        if observed.data_vars:
            groups["observed_data"] = observed
    variables = {name: (("chain", "draw"), _by_chain(column, equal)) for name, column in statistics.items()}
    groups["sample_stats"] = xarray.Dataset(variables, coords=_coordinates(equal))
    if int(arviz.__version__.split(".")[0]) >= 1:
        return xarray.DataTree.from_dict(groups)
    return arviz.InferenceData(**groups)


def _require(package: str) -> Any:
    """The optional package, imported only here."""
    try:
        return __import__(package)
    except ImportError as error:
        raise MissingPackageError(package, "arviz") from error


def _equally_weighted(posterior: Empirical, seed: int | None) -> tuple[Empirical, np.ndarray]:
    """The posterior, resampled if its weights differ, and the log weights that its samples had; traces as a table."""
    log_weights = posterior.log_weights
    values = posterior.values
    if isinstance(values, list) and values and all(hasattr(value, "sites") for value in values):
        values = _table_of(values)
    posterior = Empirical(values, log_weights, num_chains=posterior.num_chains)
    if len(posterior) == 0 or np.all(log_weights == log_weights[0]):
        return posterior, log_weights
    index = Empirical(np.arange(len(posterior)), log_weights).resample(seed=seed).values
    assert isinstance(index, np.ndarray)
    return Empirical(posterior[index].values), log_weights[index]


def _table_of(traces: list[Any]) -> TraceTable:
    writer = TraceWriter()
    for trace in traces:
        writer.append(trace, 0.0)
    return writer.finish()[0]


def _posterior_group(posterior: Empirical) -> Any:
    import xarray

    values = posterior.values
    if isinstance(values, TraceTable):
        columns, left_out = latent_columns(values)
    elif isinstance(values, np.ndarray):
        columns, left_out = {"value": values}, []
    else:
        raise PPLError("Only traces and numbers can be exported. Map the values to numbers first, with .map(function).")
    variables = {}
    for name, column in columns.items():
        axes = [f"{name}_dim_{axis}" for axis in range(column.ndim - 1)]
        variables[name] = (("chain", "draw", *axes), _by_chain(column, posterior))
    attributes = {"inference_library": "ppl_jax", "left_out": left_out}
    return xarray.Dataset(variables, coords=_coordinates(posterior), attrs=attributes)


def latent_columns(table: TraceTable) -> tuple[dict[str, np.ndarray], list[str]]:
    """The named latents that all traces have as numbers of one shape, and the names of the others.

    Both are in order of occurrence. A latent that some trace meets more than once has its occurrence in brackets behind
    its name.
    """
    layouts = [layout for layout, _ in table.groups()]
    keys = {key: None for layout in layouts for key in _keys(layout, _is_latent)}
    repeated = {name for name, occurrence in keys if occurrence > 1}
    columns, left_out = {}, []
    for key in keys:
        label = f"{key[0]}[{key[1]}]" if key[0] in repeated else key[0]
        places = [(layout, layout.position(key)) for layout in layouts]
        numbers = [None if place is None else layout.numbers(place) for layout, place in places]
        if all(numbers) and len({found.shape for found in numbers if found}) == 1:
            columns[label] = np.asarray(table.column(key))
        else:
            left_out.append(label)
    return columns, left_out


def _observed_group(table: TraceTable) -> Any:
    """The observations that are the same number or array in all traces."""
    import xarray

    layouts = [layout for layout, _ in table.groups()]
    keys = {key: None for layout in layouts for key in _keys(layout, _is_observed)}
    repeated = {name for name, occurrence in keys if occurrence > 1}
    variables = {}
    for key in keys:
        if any(layout.position(key) is None for layout in layouts):
            continue
        column = table.column(key)
        if isinstance(column, np.ndarray) and (column == column[0]).all():
            label = f"{key[0]}[{key[1]}]" if key[0] in repeated else key[0]
            variables[label] = ([f"{label}_dim_{axis}" for axis in range(column.ndim - 1)], column[0])
    return xarray.Dataset(variables, attrs={"inference_library": "ppl_jax"})


def _is_latent(site: SiteLayout) -> bool:
    return site.kind == SAMPLE and not site.observed


def _is_observed(site: SiteLayout) -> bool:
    return site.observed and site.kind not in (FACTOR, TAG)


def _keys(layout: RowLayout, chosen: Any) -> list[Key]:
    """(name, occurrence) of the named sites that ``chosen`` accepts, in order of execution."""
    keys = [
        (position, (name, occurrence))
        for name, positions in layout.named.items()
        for occurrence, position in enumerate(positions, start=1)
        if chosen(layout.sites[position])
    ]
    return [key for _, key in sorted(keys)]


def _by_chain(column: np.ndarray, posterior: Empirical) -> np.ndarray:
    """A column (n, *shape) as (chain, draw, *shape), of the length of the shortest chain."""
    shortest = len(posterior) // posterior.num_chains
    return np.stack([column[chain][:shortest] for chain in posterior.chain_slices()])


def _coordinates(posterior: Empirical) -> dict[str, np.ndarray]:
    return {
        "chain": np.arange(posterior.num_chains),
        "draw": np.arange(len(posterior) // posterior.num_chains),
    }
