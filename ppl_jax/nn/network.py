"""The proposal network: parameters in tables by call site, and what is needed to use them on a program.

Per token the core is given: the joint embedding of the observations, the embedding of the previous draw (its value in
its prior's frame, and its call site), the call site, the family, the instance and element, and the prior's frame. What
belongs to a call site is one row of a table: an embedding, and the small matrix from shared features to the raw numbers
of its proposal. Loops of any length share rows, and new call sites take free ones; tables double when they are full.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from ppl_jax.encoding.batches import Batch
from ppl_jax.encoding.coordinates import CATEGORY, COUNT, EMBEDDED_FAMILIES
from ppl_jax.encoding.tokens import CallSites, fits
from ppl_jax.errors import NetworkError
from ppl_jax.nn import summary
from ppl_jax.nn.affine import Affine
from ppl_jax.nn.cores import CoreConfig, State, make_core
from ppl_jax.nn.embeddings import COUNTABLE, Embedding, Observer
from ppl_jax.nn.packing import Packing
from ppl_jax.nn.proposals import log_density
from ppl_jax.nn.ranges import Beyond, Range, bend, found_beyond, held, pooled

_FEATURES = 64  # shared features from which a call site's matrix makes its proposal
_ADDRESS, _FAMILY, _COUNTER, _PREVIOUS = 32, 8, 8, 32  # lengths of embeddings
_COUNTED = 16  # instances and elements with an embedding of their own; the others share the last one
_BUMPS = np.linspace(-2.5, 2.5, 6, dtype=np.float32)
_HIGH_DIGITS = 8  # a category is seen as two digits to the base 16

Parameters = Any


@dataclass(frozen=True)
class NetworkConfig:
    """All that determines the computation, parameters apart. Hashable: what is compiled for one serves its equals.

    Attributes:
      observed: (name, shape, embedding) of each observation; the embeddings without their modules.
      modules: the users' modules, one for each embedding of kind "module".
      core: see :mod:`ppl_jax.nn.cores`.
      components: of each mixture.
      observation_dim: length of the joint embedding.
      prior_share: probability with which a draw is taken from the prior, in [0, 1); bounds the importance weight of a
        draw by 1 / prior_share (defensive importance sampling: Hesterberg, Technometrics 37, 1995).
      capacity: rows of the tables.
      categories: the largest number of categories that a choice may have, 0 while there is no choice.
      kinds: the kinds of draws (see coordinates) that occur.
      bent: whether extreme observations are seen on a logarithmic scale; networks saved before that was so do not.
    """

    observed: tuple[tuple[str, tuple[int, ...], Embedding], ...]
    modules: tuple[nn.Module, ...]
    core: CoreConfig
    components: int = 10
    observation_dim: int = 128
    prior_share: float = 0.02
    capacity: int = 64
    categories: int = 0
    kinds: tuple[int, ...] = ()
    bent: bool = True

    @property
    def width(self) -> int:
        """Raw numbers of a head."""
        return max(3 * self.components, self.categories)


class ProposalModule(nn.Module):
    """The computation of a network, in Flax."""

    config: NetworkConfig

    def setup(self) -> None:
        config = self.config
        small = nn.initializers.normal(0.3)
        self.observer = Observer(config.observed, config.modules, config.observation_dim)
        self.core = make_core(config.core)
        self.addresses = self.param("addresses", small, (config.capacity, _ADDRESS))
        self.families = self.param("families", small, (EMBEDDED_FAMILIES, _FAMILY))
        self.instances = self.param("instances", small, (_COUNTED, _COUNTER))
        self.elements = self.param("elements", small, (_COUNTED, _COUNTER))
        self.previous = Affine(_PREVIOUS)
        self.wanted = Affine(config.observation_dim)
        self.trunk = [Affine(2 * _FEATURES), Affine(_FEATURES)]
        self.heads = self.param("heads", nn.initializers.normal(0.02), (config.capacity, _FEATURES, config.width))
        self.biases = self.param("biases", nn.initializers.zeros, (config.capacity, config.width))

    def observe(self, observations: Mapping[str, jax.Array], presence: jax.Array) -> jax.Array:
        """The joint embedding (n, observation_dim) of standardised observations."""
        if self.config.bent:  # users' modules are given the numbers as they are
            own = {name for name, _, embedding in self.config.observed if embedding.kind == "module"}
            observations = {name: z if name in own else bend(z) for name, z in observations.items()}
        return self.observer(observations, presence)

    def __call__(self, batch: Batch) -> jax.Array:
        """Raw numbers (R, T, width) of the proposals for a batch's tokens; its observations are standardised."""
        embedded = self.observe(batch.observations, batch.presence)[batch.trace]
        before = _previous(batch)
        inputs = self._inputs(embedded, batch.site, batch.family, batch.instance, batch.element, batch.place, *before)
        features = self._trunk(self.core(inputs, batch.start), inputs)
        width = features.shape[-1]
        cells = jnp.concatenate([features.reshape(-1, width), jnp.zeros((1, width))])[batch.block_cells]
        blocks = cells.reshape(len(batch.block_site), -1, width)
        raw = jnp.einsum("bcf,bfw->bcw", blocks, self.heads[batch.block_site])
        return raw.reshape(-1, self.config.width)[batch.cell_place] + self.biases[batch.site]

    def step(self, state: State, embedded: jax.Array, token: Mapping[str, jax.Array]) -> tuple[State, jax.Array]:
        """One token of each of n executions: the next state and the raw numbers (n, width)."""
        here = (token[name] for name in ("site", "family", "instance", "element", "place"))
        before = (token[name] for name in ("first", "previous_site", "previous_kind", "previous_u"))
        inputs = self._inputs(jnp.broadcast_to(embedded, (len(token["site"]), len(embedded))), *here, *before)
        state, features = self.core.step(state, inputs)
        features = self._trunk(features, inputs)
        # One small matrix for each row: a sum over products keeps it one fused loop, in which rows do not mix.
        raw = (features[..., None] * self.heads[token["site"]]).sum(axis=-2)
        return state, raw + self.biases[token["site"]]

    def _inputs(
        self,
        embedded: jax.Array,
        site: jax.Array,
        family: jax.Array,
        instance: jax.Array,
        element: jax.Array,
        place: jax.Array,
        first: jax.Array,
        previous_site: jax.Array,
        previous_kind: jax.Array,
        previous_u: jax.Array,
    ) -> jax.Array:
        address = self.addresses[site]
        seen = jnp.where(first[..., None], 0.0, _features_of(previous_u, previous_kind))
        behind = jnp.where(first[..., None], 0.0, self.addresses[previous_site])
        previous = nn.gelu(self.previous(seen, behind))
        counters = [
            self.instances[jnp.clip(instance - 1, 0, _COUNTED - 1)],
            self.elements[jnp.clip(element, 0, _COUNTED - 1)],
            0.3 * jnp.log1p(jnp.maximum(instance - 1, 0).astype(jnp.float32))[..., None],
            0.3 * jnp.log1p(element.astype(jnp.float32))[..., None],
        ]
        # What matters of the observations depends on where one is: the tenth draw of a series needs the tenth datum.
        wanted = 1.0 + self.wanted(jnp.concatenate([address, *counters], axis=-1))
        return jnp.concatenate(
            [
                address,
                embedded * wanted,
                previous,
                self.families[jnp.where(family < EMBEDDED_FAMILIES, family, 0)],
                *counters,
                0.3 * jnp.clip(place, -10.0, 10.0),
            ],
            axis=-1,
        )

    def _trunk(self, features: jax.Array, inputs: jax.Array) -> jax.Array:
        wide, narrow = self.trunk
        return nn.gelu(narrow(nn.gelu(wide(features, inputs))))


def _previous(batch: Batch) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """Of every token: whether it is a trace's first, and the call site, kind and coordinate of the one before it."""

    def shifted(values: Any) -> jax.Array:
        values = jnp.asarray(values)
        return jnp.concatenate([jnp.zeros_like(values[:, :1]), values[:, :-1]], axis=1)

    return jnp.asarray(batch.start), shifted(batch.site), shifted(batch.kind), shifted(batch.u)


def _features_of(u: jax.Array, kind: jax.Array) -> jax.Array:
    """What is seen of a value: bumps along its coordinate, or the digits of its category."""
    choice = (kind == CATEGORY)[..., None]
    near = jnp.clip(u, -8.0, 8.0)[..., None]
    line = jnp.concatenate([near / 3.0, jnp.tanh(near), jnp.exp(-jnp.square(near - _BUMPS))], axis=-1)
    number = jnp.where(kind == CATEGORY, u, 0.0).astype(jnp.int32)
    digits = [jax.nn.one_hot(number % 16, 16), jax.nn.one_hot(number // 16, _HIGH_DIGITS)]
    whole = (kind == COUNT)[..., None].astype(jnp.float32)
    return jnp.concatenate(
        [jnp.where(choice, 0.0, line), jnp.where(choice, jnp.concatenate(digits, axis=-1), 0.0), whole], axis=-1
    )


# -- a network and its parameters --------------------------------------------------------------------------------------


@dataclass
class Network:
    """A proposal network with its parameters: what ``ppl_jax.train`` returns and ``proposal=`` takes.

    Attributes:
      config: what it computes.
      params: the parameters, a tree of float32 arrays.
      sites: its call sites.
      visits: how many tokens of each call site it was trained on, int64 (capacity,).
      scaling: name -> (mean, standard deviation) of each observation, float64, of its shape.
      least_visits: call sites trained on fewer tokens fall back to the prior.
      history: the losses of its training (see :mod:`ppl_jax.train`); rows of (traces, loss, validation loss).
      ranges: name -> the least and the largest standardised number of each observation in training, float32, of its
        shape; empty for networks that were saved before these were kept.
    """

    config: NetworkConfig
    params: Parameters
    sites: CallSites
    visits: np.ndarray
    scaling: dict[str, tuple[np.ndarray, np.ndarray]]
    least_visits: int = 100
    history: list[tuple[int, float, float]] = field(default_factory=list)
    ranges: dict[str, Range] = field(default_factory=dict)

    def __repr__(self) -> str:
        return summary.one_line(self)

    def __str__(self) -> str:
        return summary.text(self)

    def _repr_html_(self) -> str:
        return summary.as_html(self)

    @property
    def observed(self) -> dict[str, tuple[int, ...]]:
        """Name -> shape of the observations that it is given."""
        return {name: shape for name, shape, _ in self.config.observed}

    @property
    def varying(self) -> frozenset[str]:
        """The names of those that may have fewer elements than their shape says."""
        return frozenset(name for name, _, embedding in self.config.observed if embedding.length is not None)

    @property
    def num_parameters(self) -> int:
        """How many numbers the parameters are, free rows of the tables included."""
        return sum(leaf.size for leaf in jax.tree.leaves(self.params))

    def save(self, path: Any) -> None:
        """Writes the network to a new folder; :func:`ppl_jax.load_network` reads it. No pickle.

        Raises:
          StorageError: the folder holds something, or cannot be written.
        """
        from ppl_jax.nn.files import save_network  # files know networks, not the other way round

        save_network(self, path)

    def row(self, address: str, family: str) -> int:
        """The row by which to propose at a call site; 0 where the prior must do."""
        row = self.sites.row(address, family)
        return row if row and self.visits[row] >= self.least_visits else 0

    def standardised(self, observations: Mapping[str, Any]) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """Given data as the observer takes them, each float32 (1, *shape), and which there are, float32 (1, number).

        What lies outside the range of the training is held back near it.

        Raises:
          NetworkError: data for which the network was not trained, missing ones, ones of another shape, or numbers that
            are not finite.
        """
        check_observations(self.observed, self.varying, observations)
        out, presence = {}, np.ones((1, len(self.observed)), np.float32)
        for name, shape in self.observed.items():
            z, _, there = self._placed(name, observations[name])
            out[name] = np.full((1, *shape), np.nan, np.float32)  # NaN where a varying one has no element
            out[name][0, ...][there] = z
        return out, presence

    def beyond(self, observations: Mapping[str, Any]) -> list[Beyond]:
        """Which given data lie far outside the range of the training; they are those that ``standardised`` takes."""
        found = []
        for name in self.observed:
            z, far, there = self._placed(name, observations[name])
            if far.any():
                mean, stddev = (part[there] for part in self.scaling[name])
                value = np.asarray(observations[name], np.float64)
                found.append(found_beyond(name, value, z, far, self._range(name, there), (mean, stddev)))
        return found

    def _placed(self, name: str, given: Any) -> tuple[np.ndarray, np.ndarray, tuple[slice, ...]]:
        """An observation standardised and held back; which elements lie far outside; and which there are."""
        mean, stddev = self.scaling[name]
        value = np.asarray(given, np.float64)
        there = (slice(len(value)),) if value.ndim else ()
        with np.errstate(over="ignore"):
            z = (value - mean[there]) / stddev[there]
        if not (np.abs(z) <= np.finfo(np.float32).max).all():
            raise NetworkError(
                f"The network cannot use the value given for '{name}': it has NaN, infinite, or huge numbers "
                "beside those of the training. Give finite data, or use an inference without a network."
            )
        z, far = held(z, self._range(name, there))
        return z, far, there

    def _range(self, name: str, there: tuple[slice, ...]) -> Range | None:
        """The range of the elements of an observation; None where it was not kept."""
        known = self.ranges.get(name)
        if known is None:
            return None
        kind = next(embedding.kind for other, _, embedding in self.config.observed if other == name)
        low, high = pooled(known) if kind in COUNTABLE else known
        return low[there], high[there]

    @property
    def num_traces(self) -> int:
        """How many traces it was trained on."""
        return self.history[-1][0] if self.history else 0


def check_observations(
    observed: Mapping[str, tuple[int, ...]], varying: frozenset[str], given: Mapping[str, Any]
) -> None:
    """Raises NetworkError unless exactly the observations that a network was made for are given, in their shapes."""
    missing, foreign = sorted(observed.keys() - given.keys()), sorted(given.keys() - observed.keys())
    if missing or foreign:
        wrong = [f"'{name}' is not given" for name in missing] + [f"'{name}' is unknown to it" for name in foreign]
        raise NetworkError(
            f"The network was trained on the observations {sorted(observed)}, but {', '.join(wrong)}. Give these "
            "observations, or train another network with observe_embeddings for the ones you have."
        )
    for name, shape in observed.items():
        if not fits(np.shape(given[name]), shape, name in varying):
            raise NetworkError(
                f"The network was trained on '{name}' of {'at most ' if name in varying else ''}shape {shape}, but a "
                f"value of shape {np.shape(given[name])} is given. Give one of such a shape, or train a network on "
                "such observations."
            )


def create_network(
    config: NetworkConfig, scaling: dict[str, tuple[np.ndarray, np.ndarray]], sites: CallSites, seed: int
) -> Network:
    """A network with fresh parameters.

    Args:
      config: its capacity, categories and kinds must do for ``sites``.
      scaling: mean and standard deviation of each observation.
      sites: the call sites known so far.
      seed: integer in [0, 2**64).
    """
    key = jax.random.key(np.uint32(seed & 0xFFFFFFFF), impl="rbg")  # compiles in half the time of the default
    params = _initialise(config)(jax.random.fold_in(key, np.uint32(seed >> 32)))
    return Network(config, params, sites, np.zeros(config.capacity, np.int64), scaling)


@lru_cache(maxsize=64)
def _initialise(config: NetworkConfig) -> Any:
    module = ProposalModule(config)
    options: dict[str, Any] = {"xla_backend_optimization_level": 0}  # it runs once: what it takes is to compile it
    return jax.jit(lambda key: module.init(key, _example(config))["params"], compiler_options=options)


@lru_cache(maxsize=64)
def _shapes(config: NetworkConfig) -> Any:
    """The shapes of the parameters."""
    return jax.eval_shape(_initialise(config), jax.random.key(0, impl="rbg"))


@lru_cache(maxsize=64)
def packing_of(config: NetworkConfig) -> Packing:
    """How the parameters of a configuration are packed."""
    return Packing(_shapes(config))


def _example(config: NetworkConfig) -> Batch:
    """A batch of one token, for the shapes of the parameters."""
    observations = {name: np.zeros((1, *shape), np.float32) for name, shape, _ in config.observed}
    whole, real, pair = np.zeros((1, 1), np.int32), np.zeros((1, 1), np.float32), np.zeros((1, 1, 2), np.float32)
    presence = np.ones((1, len(config.observed)), np.float32)
    log_probs = np.zeros((1, 1, config.categories), np.float32)
    return Batch(
        observations, presence, np.ones((), np.float32), whole, np.ones((1, 1), bool), real, whole, whole, whole, whole,
        whole, pair, real, pair, real, real, log_probs, np.zeros(1, np.int32), np.zeros(1, np.int32), whole,
    )  # fmt: skip


def grown(config: NetworkConfig, rows: int, categories: int, kinds: set[int]) -> NetworkConfig:
    """The configuration with room for so many rows and categories, and for these kinds; itself if it has it."""
    capacity = config.capacity
    while capacity < rows:
        capacity *= 2
    width = config.categories
    if categories > width:
        width = 1 << (categories - 1).bit_length()
    return replace(config, capacity=capacity, categories=width, kinds=tuple(sorted(kinds.union(config.kinds))))


def grow(tree: Any, old: NetworkConfig, new: NetworkConfig, key: jax.Array | None) -> Any:
    """Parameters, or anything of their structure, with the tables enlarged.

    Args:
      tree: with "addresses", "heads" and "biases" at its top.
      old, new: the configurations.
      key: new rows of parameters are drawn from it; None makes them zero (moments of an optimiser).
    """
    if (old.capacity, old.width) == (new.capacity, new.width):
        return tree
    shapes = {
        "addresses": (new.capacity, _ADDRESS),
        "heads": (new.capacity, _FEATURES, new.width),
        "biases": (new.capacity, new.width),
    }
    scales = {"addresses": 0.3, "heads": 0.02, "biases": 0.0}
    out = dict(tree)
    for number, (name, shape) in enumerate(shapes.items()):
        fresh: np.ndarray = np.zeros(shape, np.float32)
        if key is not None:
            fresh = scales[name] * np.array(jax.random.normal(jax.random.fold_in(key, number), shape))
        table = np.asarray(tree[name])
        fresh[tuple(slice(size) for size in table.shape)] = table
        out[name] = fresh
    return out


def loss(config: NetworkConfig, params: Parameters, batch: Batch) -> jax.Array:
    """Mean over traces of log prior density minus log proposal density of their latents, in nats.

    It is 0 for a proposal that is the prior, and falls by the information that proposals take from the observations:
    the Kullback-Leibler divergence from posterior to proposal, less that from posterior to prior.
    """
    raw: Any = ProposalModule(config).apply({"params": params}, batch)
    proposal = log_density(raw, batch, config.components, config.kinds)
    gain = proposal - batch.log_prior
    if config.prior_share > 0.0:
        share = config.prior_share
        gain = jnp.logaddexp(math.log1p(-share) + gain, math.log(share))
    return -jnp.where(batch.mask > 0.0, gain, 0.0).sum() / batch.num_traces


@lru_cache(maxsize=64)
def compiled_observer(config: NetworkConfig) -> Any:
    """``(params, observations, presence) -> (n, observation_dim)``, compiled."""
    module = ProposalModule(config)
    return jax.jit(
        lambda params, observations, presence: module.apply(
            {"params": params}, observations, presence, method=ProposalModule.observe
        )
    )


@lru_cache(maxsize=64)
def compiled_step(config: NetworkConfig) -> Any:
    """``(params, state, embedded, token) -> (state, raw)`` for a block of executions, compiled."""
    module = ProposalModule(config)
    return jax.jit(partial(_apply_step, module))


def _apply_step(module: ProposalModule, params: Parameters, state: State, embedded: jax.Array, token: Any) -> Any:
    return module.apply({"params": params}, state, embedded, token, method=ProposalModule.step)
