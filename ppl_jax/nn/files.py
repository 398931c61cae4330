"""Networks on disk: a folder with ``network.json`` and ``arrays.npz``. No pickle: reading one executes nothing.

``network.json`` has checksums of itself and of the other file, so that no changed byte is taken for a parameter.
"""

from __future__ import annotations

import io
import json
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import numpy as np

from ppl_jax.encoding.tokens import CallSites
from ppl_jax.errors import StorageError
from ppl_jax.nn.cores import core_from_json, core_to_json
from ppl_jax.nn.embeddings import Embedding
from ppl_jax.nn.network import Network, NetworkConfig

FORMAT = "ppl_jax network 2"
_WITHOUT_CHECKSUMS = "ppl_jax network 1"
_NUMBERS = ("components", "observation_dim", "prior_share", "capacity", "categories")


def save_network(network: Network, path: str | Path) -> None:
    """Writes a network to a new folder.

    Raises:
      StorageError: the folder holds something, or cannot be written.
    """
    path = Path(path)
    arrays = {f"params/{name}": leaf for name, leaf in flatten(network.params).items()}
    arrays["visits"] = network.visits
    for name, (mean, stddev) in network.scaling.items():
        arrays[f"scaling/mean/{name}"], arrays[f"scaling/stddev/{name}"] = mean, stddev
    for name, (low, high) in network.ranges.items():
        arrays[f"range/low/{name}"], arrays[f"range/high/{name}"] = low, high
    try:
        path.mkdir(parents=True, exist_ok=True)
        if any(path.iterdir()):
            raise StorageError(f"{path} is not empty. Give a new folder, or remove what is there.")
        archive = io.BytesIO()
        np.savez(archive, **{key: np.asarray(array) for key, array in arrays.items()})  # type: ignore[arg-type]
        data = network_to_json(network) | {"arrays_crc32": zlib.crc32(archive.getbuffer())}
        (path / "arrays.npz").write_bytes(archive.getbuffer())
        text = json.dumps(data | {"crc32": _checksum(data)}, indent=1)
        (path / "network.json").write_text(text, encoding="utf-8")
    except OSError as error:
        raise StorageError(
            f"The network cannot be written to {path}: {error}. Give a folder that can be written to."
        ) from error


def load_network(path: str | Path, modules: Mapping[str, nn.Module] | None = None) -> Network:
    """Reads what ``Network.save`` wrote.

    Args:
      path: the folder.
      modules: name of an observation -> the Flax module that embeds it, for those that were embedded by a module of the
        user's (code is not stored).

    Raises:
      StorageError: there is no network at ``path``, it is damaged or of another version, or a module is missing.
    """
    path = Path(path)
    try:
        data = json.loads((path / "network.json").read_text(encoding="utf-8"))
        if data.get("format") not in (FORMAT, _WITHOUT_CHECKSUMS):
            raise StorageError(
                f"{path} holds the format {data.get('format')!r}, but '{FORMAT}' was expected. Read it with the "
                "version of ppl_jax that wrote it."
            )
        stored = (path / "arrays.npz").read_bytes()
        if data["format"] == FORMAT:
            _check(data.pop("crc32") == _checksum(data), "network.json")
            _check(data["arrays_crc32"] == zlib.crc32(stored), "arrays.npz")
        with np.load(io.BytesIO(stored), allow_pickle=False) as archive:
            arrays = {key: archive[key] for key in archive.files}
        return network_from_json(data, arrays, modules or {}, str(path))
    except OSError as error:
        raise StorageError(
            f"{path} is not a folder with a network: {error}. Give the folder that network.save wrote."
        ) from error
    except (KeyError, TypeError, ValueError, AttributeError, EOFError, zipfile.BadZipFile) as error:
        if isinstance(error, StorageError):
            raise
        raise StorageError(
            f"The network at {path} is damaged ({type(error).__name__}: {error}). Restore it from a copy, or train it "
            "again."
        ) from error


def _checksum(data: Mapping[str, Any]) -> int:
    return zlib.crc32(json.dumps(data, sort_keys=True).encode())


def _check(right: bool, name: str) -> None:
    if not right:
        raise ValueError(f"the checksum of {name} is another")


def network_to_json(network: Network) -> dict[str, Any]:
    """All of a network that is no array."""
    config = network.config
    return {
        "format": FORMAT,
        "observed": [
            [name, list(shape), embedding.kind, embedding.dim, embedding.length]
            for name, shape, embedding in config.observed
        ],
        "core": core_to_json(config.core),
        "kinds": list(config.kinds),
        "bent": config.bent,
        **{name: getattr(config, name) for name in _NUMBERS},
        "sites": network.sites.known,
        "least_visits": network.least_visits,
        "history": network.history,
    }


def network_from_json(
    data: Mapping[str, Any], arrays: Mapping[str, np.ndarray], modules: Mapping[str, nn.Module], place: str
) -> Network:
    """The network of ``network_to_json`` and its arrays; ``place`` is for messages."""
    observed, own = [], []
    for name, shape, kind, dim, *length in data["observed"]:
        observed.append((name, tuple(shape), Embedding(dim, kind, None, *length)))
        if kind == "module":
            if name not in modules:
                raise StorageError(
                    f"The network at {place} embeds '{name}' by a module of yours, whose code is not stored. Give it: "
                    f"load_network(path, modules={{'{name}': module}})."
                )
            own.append(modules[name])
    config = NetworkConfig(
        observed=tuple(observed),
        modules=tuple(own),
        core=core_from_json(data["core"]),
        kinds=tuple(data["kinds"]),
        bent=bool(data.get("bent", False)),  # those written before there was such a thing have no entry
        **{name: data[name] for name in _NUMBERS},
    )
    params = {key.removeprefix("params/"): value for key, value in arrays.items() if key.startswith("params/")}
    scaling = {name: (arrays[f"scaling/mean/{name}"], arrays[f"scaling/stddev/{name}"]) for name, *_ in observed}
    history = [(int(traces), float(loss), float(held_out)) for traces, loss, held_out in data["history"]]
    sites = CallSites((address, family) for address, family in data["sites"])
    ranges = {
        name: (arrays[f"range/low/{name}"], arrays[f"range/high/{name}"])
        for name, *_ in observed
        if f"range/low/{name}" in arrays
    }
    visits, least = arrays["visits"], int(data["least_visits"])
    return Network(config, unflatten(params), sites, visits, scaling, least, history, ranges)


def flatten(tree: Any) -> dict[str, Any]:
    """The leaves of nested mappings, by their keys joined with "/"."""
    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    return {"/".join(str(key.key) for key in path): leaf for path, leaf in leaves}


def unflatten(leaves: Mapping[str, Any]) -> dict[str, Any]:
    """Undoes ``flatten``."""
    tree: dict[str, Any] = {}
    for name, leaf in leaves.items():
        *outer, last = name.split("/")
        inner = tree
        for key in outer:
            inner = inner.setdefault(key, {})
        inner[last] = leaf
    return tree
