"""Embeddings of observations: vectors for numbers, images, grids, sets, sequences, or whatever a user's module takes.

Sets and sequences are arrays whose first dimension counts their elements. How many there are may vary from execution to
execution, up to ``Embedding.length``: a place without an element holds NaN in every number, and is left out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from ppl_jax.nn.cores import LSTMCore

COUNTABLE = ("set", "sequence")  # the kinds whose observations consist of elements
KINDS = ("mlp", "cnn2d", "cnn3d", *COUNTABLE)
_NARROWEST = 64  # features of an element


@dataclass(frozen=True)
class Embedding:
    """How an observation is embedded.

    Attributes:
      dim: length of the embedding.
      kind: "mlp" (the array as one vector), "cnn2d" (shape (height, width) or (height, width, channels)), "cnn3d"
        (shape (depth, height, width), perhaps with channels), "set" (shape (elements, ...), in an order that means
        nothing), "sequence" (shape (elements, ...), in an order that matters), or "module".
      module: with kind "module": a Flax linen module from float32 (n, *shape) to (n, dim).
      length: with kinds "set" and "sequence": the largest number of elements, where it varies; None where it does not.
        An inference knows the number from its data: the model must have the same there, so observe what it is drawn
        from as well.
    """

    dim: int = 64
    kind: str = "mlp"
    module: nn.Module | None = None
    length: int | None = None


def embedding_of(name: str, given: Any) -> Embedding:
    """The embedding that a user's entry of ``observe_embeddings`` means.

    Args:
      name: of the observation.
      given: an Embedding, a mapping of its attributes, a linen module, or None for the default.

    Raises:
      ValueError: anything else.
    """
    here = f"observe_embeddings['{name}']"
    if given is None:
        return Embedding()
    if isinstance(given, nn.Module):
        given = {"module": given}
    if isinstance(given, Mapping):
        unknown = set(given) - {"dim", "kind", "module", "length"}
        if unknown:
            raise ValueError(
                f"{here}: a setting must be 'dim', 'kind', 'module' or 'length', got {sorted(unknown)[0]!r}."
            )
        given = dict(given)
        if given.get("module") is not None:
            given.setdefault("kind", "module")
        given = Embedding(**given)
    if not isinstance(given, Embedding):
        raise ValueError(
            f"{here} must be a mapping such as {{'dim': 64}}, a ppl_jax.nn.Embedding, or a Flax linen module; got "
            f"{given!r}. (Wrap a module of flax.nnx by flax.nnx.bridge.to_linen.)"
        )
    if given.kind not in (*KINDS, "module"):
        raise ValueError(f"{here}: kind must be one of {', '.join(map(repr, (*KINDS, 'module')))}; got {given.kind!r}.")
    for setting, number in (("dim", given.dim), ("length", 1 if given.length is None else given.length)):
        if isinstance(number, bool) or not isinstance(number, int) or number < 1:
            raise ValueError(f"{here}: {setting} must be an integer of at least 1, got {number!r}.")
    if given.length is not None and given.kind not in COUNTABLE:
        raise ValueError(f"{here}: with a length, kind must be 'set' or 'sequence', got {given.kind!r}.")
    if (given.kind == "module") != isinstance(given.module, nn.Module):
        raise ValueError(f"{here}: kind 'module' needs a Flax linen module, and the others have none.")
    return given


def check_shape(name: str, embedding: Embedding, shape: tuple[int, ...]) -> None:
    """Raises ValueError unless an embedding can take observations of ``shape``."""
    spatial = {"cnn2d": 2, "cnn3d": 3}.get(embedding.kind)
    if spatial is not None and len(shape) not in (spatial, spatial + 1):
        raise ValueError(
            f"observe_embeddings['{name}']: '{embedding.kind}' takes observations of {spatial} dimensions, and perhaps "
            f"channels, but '{name}' has shape {shape}. Use 'mlp', or reshape it in the model."
        )
    if embedding.kind in COUNTABLE and math.prod(shape[:1]) * len(shape) == 0:
        raise ValueError(
            f"observe_embeddings['{name}']: '{embedding.kind}' takes arrays of at least one element along their first "
            f"dimension, but '{name}' has shape {shape}. Use 'mlp', or observe an array in the model."
        )


class MLP(nn.Module):
    """Two layers over the flattened observation."""

    dim: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """(n, *shape) to (n, dim)."""
        x = x.reshape(x.shape[0], -1)
        return nn.Dense(self.dim)(nn.gelu(nn.Dense(max(self.dim, 32))(x)))


class CNN(nn.Module):
    """Convolutions of size 3 with pooling between them while there is something to pool, then two dense layers.

    ``spatial`` says how many dimensions of the observation are space; another one is channels.
    """

    dim: int
    spatial: int
    channels: tuple[int, ...] = (16, 32, 64)

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """(n, *shape) to (n, dim)."""
        if x.ndim == self.spatial + 1:
            x = x[..., None]
        for number, channels in enumerate(self.channels):
            convolve = nn.Conv(channels, (3, 3)) if self.spatial == 2 else Conv3d(channels, name=f"Conv_{number}")
            x = nn.relu(convolve(x))
            x = _pooled(x, tuple(2 if size >= 4 else 1 for size in x.shape[1:-1]))
        return nn.Dense(self.dim)(nn.relu(nn.Dense(max(self.dim, 128))(x.reshape(x.shape[0], -1))))


class Conv3d(nn.Module):
    """A convolution of size 3 in three dimensions: ``flax.linen.Conv``, parameters included, made of 2-D ones.

    Neighbours in depth become channels of a convolution over height and width, because XLA's derivatives of 3-D
    convolutions are slow on CPUs.
    """

    features: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """(n, depth, height, width, channels) to (n, depth, height, width, features)."""
        n, depth, height, width, channels = x.shape
        kernel = self.param("kernel", nn.initializers.lecun_normal(), (3, 3, 3, channels, self.features))
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        padded = jnp.pad(x, ((0, 0), (1, 1), (0, 0), (0, 0), (0, 0)))
        near = jnp.concatenate([padded[:, at : at + depth] for at in range(3)], axis=-1)
        flat = jax.lax.conv_general_dilated(
            near.reshape(n * depth, height, width, 3 * channels),
            jnp.moveaxis(kernel, 0, 2).reshape(3, 3, 3 * channels, self.features),
            (1, 1),
            "SAME",
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )
        return flat.reshape(n, depth, height, width, self.features) + bias


def _pooled(x: jax.Array, window: tuple[int, ...]) -> jax.Array:
    """The maxima of windows of x, (n, *space, channels); what is left over at the ends is dropped.

    By reshaping: the derivative of ``flax.linen.max_pool`` takes several times as long as the convolutions on CPUs.
    """
    whole = [size // part for size, part in zip(x.shape[1:-1], window, strict=True)]
    x = x[(slice(None), *(slice(count * part) for count, part in zip(whole, window, strict=True)))]
    divided = [size for pair in zip(whole, window, strict=True) for size in pair]
    return x.reshape(len(x), *divided, x.shape[-1]).max(axis=tuple(range(2, 2 * len(whole) + 1, 2)))


class Set(nn.Module):
    """Deep sets: a network for each element, their mean and maximum, and a network for these and how many there are.

    The order of the elements does not matter: Zaheer et al., "Deep sets", NeurIPS 2017, equation 4, with the maximum
    beside the sum. The mean instead of the sum, and the number apart, keep sets of all sizes in one range.
    """

    dim: int
    varying: bool

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """(n, length, ...) to (n, dim)."""
        x, there = _elements(x, self.varying)
        width = max(self.dim, _NARROWEST)
        each = nn.relu(nn.Dense(width)(nn.gelu(nn.Dense(width)(x)))) * there[..., None]
        pooled = [_mean(each, there), each.max(axis=1), _size(there)]  # nothing is below 0, where the absent ones are
        return _summary(self.dim, pooled)


class Sequence(nn.Module):
    """A long short-term memory over the elements; its last state and its mean, and a network for these."""

    dim: int
    varying: bool

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """(n, length, ...) to (n, dim)."""
        x, there = _elements(x, self.varying)
        width = max(self.dim, _NARROWEST)
        start = jnp.broadcast_to(jnp.arange(x.shape[1]) == 0, x.shape[:2])
        states = LSTMCore(width)(x, start) * there[..., None]
        final = there - jnp.concatenate([there[:, 1:], jnp.zeros_like(there[:, :1])], axis=1)  # 1 at the last element
        pooled = [jnp.einsum("nt,ntw->nw", final, states), _mean(states, there), _size(there)]
        return _summary(self.dim, pooled)


def _elements(x: jax.Array, varying: bool) -> tuple[jax.Array, jax.Array]:
    """(n, length, ...) as features of elements, (n, length, features), and which there are, float32 (n, length)."""
    x = x.reshape(*x.shape[:2], -1)
    if not varying:
        return x, jnp.ones(x.shape[:2], x.dtype)
    there = ~jnp.isnan(x).all(axis=-1)
    return jnp.where(there[..., None], x, 0.0), there.astype(x.dtype)


def _summary(dim: int, pooled: list[jax.Array]) -> jax.Array:
    """The network, of the module that calls this, for what is known of all elements together: (n, dim)."""
    return nn.Dense(dim)(nn.gelu(nn.Dense(max(dim, _NARROWEST))(jnp.concatenate(pooled, axis=-1))))


def _mean(features: jax.Array, there: jax.Array) -> jax.Array:
    """Mean over the elements of features (n, length, width) that are 0 where there is none; (n, width)."""
    return features.sum(axis=1) / jnp.maximum(there.sum(axis=1), 1.0)[:, None]


def _size(there: jax.Array) -> jax.Array:
    """The number of elements on a scale on which networks can use it, (n, 1)."""
    return 0.3 * jnp.log1p(there.sum(axis=1))[:, None]


class Observer(nn.Module):
    """All observations of a trace as one vector.

    Observations of one shape and kind share one batched computation, not their parameters: programs that observe the
    same thing many times then compile as quickly as those that do it once.

    Attributes:
      observed: (name, shape, embedding without its module) of each observation.
      modules: the users' modules, one for each observation of kind "module", in order.
      dim: length of the joint vector.
    """

    observed: tuple[tuple[str, tuple[int, ...], Embedding], ...]
    modules: tuple[nn.Module, ...]
    dim: int

    @nn.compact
    def __call__(self, observations: Mapping[str, jax.Array], presence: jax.Array) -> jax.Array:
        """name -> standardised float32 (n, *shape), and which there are, float32 (n, observations), to (n, dim)."""
        groups: dict[Any, list[int]] = {}
        for number, (_, shape, embedding) in enumerate(self.observed):
            own = number if embedding.kind == "module" else -1
            groups.setdefault((shape, embedding, own), []).append(number)
        parts: dict[int, jax.Array] = {}
        users = iter(self.modules)
        for (_, embedding, _), members in groups.items():
            names = [self.observed[number][0] for number in members]
            if embedding.kind == "module":
                outputs = [next(users)(observations[names[0]])]
            else:
                stacked = jnp.stack([observations[name] for name in names])
                outputs = list(_batched(embedding, f"{embedding.kind}_{'_'.join(map(str, members))}")(stacked))
            for number, output in zip(members, outputs, strict=True):
                parts[number] = output * presence[:, number, None]
        joint = jnp.concatenate([*(parts[number] for number in sorted(parts)), presence], axis=-1)
        return nn.gelu(nn.Dense(self.dim)(joint))


def _batched(embedding: Embedding, name: str) -> nn.Module:
    """The module of a kind for several observations at once, each with parameters of its own."""
    varying = embedding.length is not None
    modules: dict[str, tuple[Any, dict[str, Any]]] = {
        "mlp": (MLP, {}),
        "cnn2d": (CNN, {"spatial": 2}),
        "cnn3d": (CNN, {"spatial": 3}),
        "set": (Set, {"varying": varying}),
        "sequence": (Sequence, {"varying": varying}),
    }
    kind, settings = modules[embedding.kind]
    many: Any = nn.vmap(kind, variable_axes={"params": 0}, split_rngs={"params": True})
    return many(embedding.dim, name=name, **settings)
