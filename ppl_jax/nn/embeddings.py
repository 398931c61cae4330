"""Embeddings of observations: from a number, an image, a grid, or anything a user's module takes, to a vector."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

KINDS = ("mlp", "cnn2d", "cnn3d")


@dataclass(frozen=True)
class Embedding:
    """How an observation is embedded.

    Attributes:
      dim: length of the embedding.
      kind: "mlp" (the array as one vector), "cnn2d" (shape (height, width) or (height, width, channels)), "cnn3d"
        (shape (depth, height, width), perhaps with channels), or "module".
      module: with kind "module": a Flax linen module from float32 (n, *shape) to (n, dim).
    """

    dim: int = 64
    kind: str = "mlp"
    module: nn.Module | None = None


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
        unknown = set(given) - {"dim", "kind", "module"}
        if unknown:
            raise ValueError(f"{here} has no setting {sorted(unknown)[0]!r}; there are 'dim', 'kind' and 'module'.")
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
    if isinstance(given.dim, bool) or not isinstance(given.dim, int) or given.dim < 1:
        raise ValueError(f"{here}: dim must be an integer of at least 1, got {given.dim!r}.")
    if (given.kind == "module") != isinstance(given.module, nn.Module):
        raise ValueError(f"{here}: a Flax linen module goes with kind 'module', and with no other.")
    return given


def check_shape(name: str, embedding: Embedding, shape: tuple[int, ...]) -> None:
    """Raises ValueError unless an embedding can take observations of ``shape``."""
    spatial = {"cnn2d": 2, "cnn3d": 3}.get(embedding.kind)
    if spatial is not None and len(shape) not in (spatial, spatial + 1):
        raise ValueError(
            f"observe_embeddings['{name}']: '{embedding.kind}' takes observations of {spatial} dimensions, and perhaps "
            f"channels, but '{name}' has shape {shape}. Use 'mlp', or reshape it in the model."
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
        for channels in self.channels:
            x = nn.relu(nn.Conv(channels, (3,) * self.spatial)(x))
            window = tuple(2 if size >= 4 else 1 for size in x.shape[1:-1])
            if math.prod(window) > 1:
                x = nn.max_pool(x, window, window)
        return nn.Dense(self.dim)(nn.relu(nn.Dense(max(self.dim, 128))(x.reshape(x.shape[0], -1))))


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
    kind: Any = MLP if embedding.kind == "mlp" else CNN
    sizes = {} if embedding.kind == "mlp" else {"spatial": 2 if embedding.kind == "cnn2d" else 3}
    many = nn.vmap(kind, variable_axes={"params": 0}, split_rngs={"params": True})
    return many(embedding.dim, name=name, **sizes)
