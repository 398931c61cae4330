"""What a network is told of the observations: which, how embedded, and how they are standardised; from a first look."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from ppl_jax.encoding.tokens import CallSites, Encoder, observation_shapes
from ppl_jax.errors import NetworkError, UnknownObservationError
from ppl_jax.nn.embeddings import COUNTABLE, Embedding, check_shape, embedding_of
from ppl_jax.nn.network import Network, NetworkConfig
from ppl_jax.storage import TraceTable

_HEAVY = 20.0  # standard deviations of the quartiles; of a Cauchy distribution a thousand numbers have about as many
_QUARTILES = 1.349  # standard deviations between the quartiles of a normal distribution
_HUGE = float(np.finfo(np.float32).max)  # numbers beyond would drown the rest; training skips them


def observed_in(
    look: TraceTable, given: Mapping[str, Any] | None
) -> tuple[tuple[tuple[str, tuple[int, ...], Embedding], ...], tuple[Any, ...]]:
    """(name, shape, embedding) of each observation, and the users' modules."""
    shapes = observation_shapes(look)
    if given is None:
        given = dict.fromkeys(shapes)
    elsewhere = {
        site.name: tuple(site.value)
        for layout, _ in look.groups()
        for site in layout.sites
        if site.name and site.kind == "sample" and site.value is not None
    }
    unknown = given.keys() - shapes.keys() - elsewhere.keys()
    if unknown:
        raise UnknownObservationError(unknown, shapes.keys() | elsewhere.keys(), len(look))
    if not given:
        raise NetworkError(
            "A network needs observations to propose from, but the model has no named observe. Give the observes names."
        )
    observed, modules = [], []
    for name, entry in given.items():
        embedding = embedding_of(name, entry)
        shape = shapes.get(name, elsewhere.get(name, ()))
        if embedding.length is not None and shape:
            shape = (embedding.length, *shape[1:])
        check_shape(name, embedding, shape)
        if embedding.module is not None:
            modules.append(embedding.module)
        observed.append((name, shape, replace(embedding, module=None)))
    return tuple(observed), tuple(modules)


def check_fits(network: Network, look: TraceTable) -> None:
    """Raises NetworkError if traces cannot be of the program that a network was trained on."""
    sites = CallSites()
    _, _, presence = Encoder(network.observed, sites, network.varying).encode(look)
    missing = [f"'{name}'" for name, there in zip(network.observed, presence.T, strict=True) if not there.any()]
    if missing:
        raise NetworkError(
            f"The network was trained on the observations {sorted(network.observed)}, but none of {len(look)} traces "
            f"that were looked at has {', '.join(missing)}. Train it further on traces of its own model, or train "
            "another network."
        )
    known, met = network.sites.known, sites.known
    if known and met and set(known).isdisjoint(met):
        raise NetworkError(
            f"The traces are of another model than the network: they have no call site in common (for example "
            f"{known[0][0]!r} in the network, {met[0][0]!r} in the traces). Train it further on traces of its own "
            "model, or train another network."
        )


def doubts(network: Network, look: TraceTable) -> list[str]:
    """What should be said, before a training, of traces that a network can be trained on; sentences."""
    sites = CallSites()
    _, values, presence = Encoder(network.observed, sites, network.varying).encode(look)
    found = []
    for number, name in enumerate(network.observed):
        rows = values[name][presence[:, number] > 0.0]
        if len(rows) > 1 and rows.size and (rows == rows[0]).all():
            found.append(
                f"The observation '{name}' is the same in all of {len(rows):,} traces that were looked at before the "
                "training: a network learns nothing from it, and not what other values mean. Simulate it, or leave it "
                "out of observe_embeddings."
            )
    known = set(network.sites.known)
    new = [site for site in sites.known if site not in known]
    if known and new:
        found.append(
            f"{len(new)} of {len(sites.known)} call sites of these traces are new to the network (for example "
            f"{new[0][0]} of {new[0][1]}): what it proposes there begins untrained. If the program was not meant to "
            "change, train on the one that the network was trained on."
        )
    return found


def scaling_in(look: TraceTable, config: NetworkConfig) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Mean and standard deviation of each observation, number by number; a tenth of the overall one at least.

    The elements of a set, and of a sequence, are alike: they have one scale. Where the tails are so heavy that a few
    numbers make the standard deviation, median and quartiles take its place (see ``_location_and_scale``).
    """
    observed = {name: shape for name, shape, _ in config.observed}
    varying = frozenset(name for name, _, embedding in config.observed if embedding.length is not None)
    _, values, presence = Encoder(observed, CallSites(), varying).encode(look)
    scaling = {}
    for number, (name, shape, embedding) in enumerate(config.observed):
        column = values[name][presence[:, number] > 0.0]
        if embedding.kind in COUNTABLE:
            column = column.reshape(-1, *shape[1:])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # no finite number at all: the fallbacks below
            column = np.where(np.abs(column) < _HUGE, column, np.nan)
            mean, stddev = _location_and_scale(column)
            overall = _location_and_scale(column.reshape(-1))[1]
        stddev = np.maximum(stddev, 0.1 * (overall if overall > 0.0 else 10.0))
        scaling[name] = (
            np.broadcast_to(np.nan_to_num(mean), shape).copy(),
            np.broadcast_to(np.nan_to_num(stddev, nan=1.0), shape).copy(),
        )
    return scaling


def _location_and_scale(column: np.ndarray) -> tuple[Any, Any]:
    """Mean and standard deviation along the first dimension, NaN left out; of heavy tails robust ones.

    With the standard deviation as the unit, counts over six orders of magnitude would all but the largest be the same
    number to a network. Where it exceeds 20 times what the quartiles say, the median and that take its place.
    """
    mean, stddev = np.nanmean(column, axis=0), np.nanstd(column, axis=0)
    low, median, high = np.nanquantile(column, (0.25, 0.5, 0.75), axis=0)
    robust = (high - low) / _QUARTILES
    heavy = (robust > 0.0) & (stddev > _HEAVY * robust)
    return np.where(heavy, median, mean), np.where(heavy, robust, stddev)
