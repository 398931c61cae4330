"""Bayesian inference in simulators: probabilistic programs as plain Python functions, and the engines that invert them.

A model is a function that draws by ``sample`` and compares with data by ``observe``; an engine gives its posterior:

>>> import ppl_jax as ppl
>>> import ppl_jax.distributions as dist
>>> def decay():
...     energy = ppl.sample(dist.Normal(5.0, 2.0), name="energy")
...     ppl.observe(dist.Normal(energy, 1.5), name="cell")
>>> posterior = ppl.importance_sampling(decay, {"cell": 7.1}, num_traces=2000, seed=0, progress=False)
>>> round(posterior.map("energy").mean)
6

The engines are ``prior``, ``importance_sampling``, ``metropolis_hastings``, ``nuts`` and ``smc``; ``train`` makes a
network that proposes what explains the data; ``RemoteModel`` is a simulator in another process and language as a model.
Each has its own help, such as ``help(ppl.smc)``. The public API is what this file names; ``ppl_jax.distributions``,
``ppl_jax.handlers``, ``ppl_jax.diagnostics`` and ``ppl_jax.data`` are the modules that users import besides it.
"""

from importlib import import_module
from typing import Any

from ppl_jax import data, diagnostics, distributions, handlers
from ppl_jax.data import Dataset, open_dataset, save_dataset
from ppl_jax.empirical import Empirical
from ppl_jax.errors import (
    DegenerateWeightsError,
    InterruptedRunWarning,
    MissingPackageError,
    ModelError,
    NetworkError,
    NoLatentsError,
    ObservationError,
    ParameterError,
    PPLError,
    ScopeError,
    SimulatorError,
    StorageError,
    SupportError,
    TrainingError,
    UnknownObservationError,
    UnreliablePosteriorWarning,
    UntraceableModelError,
    WorkerDied,
)
from ppl_jax.infer import (
    Lightweight,
    RandomWalk,
    importance_sampling,
    metropolis_hastings,
    nuts,
    prior,
    smc,
)
from ppl_jax.language.primitives import factor, observe, sample, tag
from ppl_jax.language.scopes import rejection_scope
from ppl_jax.language.site import Site
from ppl_jax.language.trace import Trace, TraceType
from ppl_jax.remote import RemoteModel
from ppl_jax.training.train import train

__version__ = "0.1.0"

__all__ = [
    # the language
    "sample", "observe", "factor", "tag", "rejection_scope", "distributions", "handlers",
    # the engines
    "prior", "importance_sampling", "metropolis_hastings", "nuts", "smc", "Lightweight", "RandomWalk",
    # inference compilation
    "train", "load_network", "nn",
    # traces on disk
    "save_dataset", "open_dataset", "Dataset", "data",
    # simulators in other processes
    "RemoteModel", "SimulatorError",
    # what they return, and whether to trust it
    "Empirical", "Site", "Trace", "TraceType", "diagnostics",
    # what can go wrong
    "PPLError", "ParameterError", "ObservationError", "UnknownObservationError", "SupportError", "ModelError",
    "DegenerateWeightsError", "NoLatentsError", "UntraceableModelError", "StorageError", "ScopeError",
    "NetworkError", "TrainingError", "MissingPackageError", "WorkerDied", "InterruptedRunWarning",
    "UnreliablePosteriorWarning",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    """What needs JAX and Flax is imported when it is asked for."""
    if name not in ("nn", "load_network"):
        raise AttributeError(f"module 'ppl_jax' has no attribute {name!r}")
    try:
        nn = import_module("ppl_jax.nn")
    except ModuleNotFoundError as error:
        raise MissingPackageError(error.name, "train") from error
    return nn if name == "nn" else nn.load_network
