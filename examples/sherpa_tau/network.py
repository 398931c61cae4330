"""The network that proposes how a tau lepton decayed, from the image of the calorimeter."""

from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

import ppl_jax as ppl

BATCH = 64
# Seven draws are proposed one after the other: a weight may be as large as the seventh power of this share's inverse.
PRIOR_SHARE = 0.1
WIDTH = 128  # of the embedding and of the LSTM


class CalorimeterCNN(nn.Module):
    """A three-dimensional convolutional network: float32 (n, depth, height, width) to (n, dim).

    Each layer looks at neighbourhoods of 3 x 3 x 3 in steps of 2. They are cut out as slices and multiplied as one
    matrix: XLA's own gradient of a convolution in three dimensions is 50 times slower on a CPU.

    Where a shower is, among hundreds of places with nothing but noise, is learned first and matters most. So the
    network is given sums over neighbours, in which a shower stands out; and several heads look for something each: the
    first layer's features vote for places, and where the votes fall (mean coordinates) and what is there (mean
    features) is given to the last layers, beside the features of all places.
    """

    dim: int = WIDTH
    channels: tuple[int, ...] = (16, 32)
    heads: int = 8

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """See the class."""
        x = nn.relu(nn.Dense(self.channels[0])(neighbourhoods(summed(x))))
        found = attend(x, nn.Dense(self.heads)(x))
        for channels in self.channels[1:]:
            x = nn.relu(nn.Dense(channels)(neighbourhoods(x)))
        x = jnp.concatenate([found, x.reshape(x.shape[0], -1)], axis=-1)
        return nn.Dense(self.dim)(nn.relu(nn.Dense(2 * self.dim)(x)))


def summed(x: jax.Array) -> jax.Array:
    """Images with sums, of unit noise if theirs is: (n, depth, height, width) to (n, depth, height, width, 3).

    The voxels themselves, sums over 3 x 3 x 3 of them, and sums over 3 x 3 columns through the whole depth.
    """
    depth = x.shape[1]
    across = _sum_of_three(_sum_of_three(x, 2), 3)
    cubes = _sum_of_three(across, 1) / 27**0.5
    columns = jnp.broadcast_to(across.sum(axis=1, keepdims=True), x.shape) / (9 * depth) ** 0.5
    return jnp.stack([x, cubes, columns], axis=-1)


def _sum_of_three(x: jax.Array, axis: int) -> jax.Array:
    """Every element with the two beside it along an axis."""
    padding = [(1, 1) if number == axis else (0, 0) for number in range(x.ndim)]
    padded = jnp.pad(x, padding)
    return sum(jax.lax.slice_in_dim(padded, k, k + x.shape[axis], axis=axis) for k in range(3))


def attend(x: jax.Array, votes: jax.Array) -> jax.Array:
    """Mean coordinates and features under the votes of each head.

    Args:
      x: features, (n, depth, height, width, c).
      votes: (n, depth, height, width, heads); their exponentials are the weights.

    Returns:
      (n, heads * (3 + c)); coordinates run from -1 to 1.
    """
    n, *sizes, c = x.shape
    weights = nn.softmax(votes.reshape(n, -1, votes.shape[-1]), axis=1)
    axes = [jnp.linspace(-1.0, 1.0, size) for size in sizes]
    places = jnp.stack(jnp.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
    where = jnp.einsum("nvh,vk->nhk", weights, places)
    what = jnp.einsum("nvh,nvc->nhc", weights, x.reshape(n, -1, c))
    return jnp.concatenate([where.reshape(n, -1), what.reshape(n, -1)], axis=-1)


def neighbourhoods(x: jax.Array) -> jax.Array:
    """Every second voxel along each axis with its 26 neighbours: (n, d, h, w, c) to (n, d/2, h/2, w/2, 27 c)."""
    padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (1, 1), (0, 0)))
    depth, height, width = x.shape[1:4]
    steps = range(3)
    slices = [
        padded[:, a : a + depth : 2, b : b + height : 2, c : c + width : 2] for a in steps for b in steps for c in steps
    ]
    return jnp.concatenate(slices, axis=-1)


def train(traces: Any, num_traces: int, seed: int, checkpoint: Path | None = None) -> Any:
    """A network trained on a dataset of simulated decays, gone through as often as ``num_traces`` asks for."""
    embedding = {"kind": "module", "module": CalorimeterCNN(), "dim": WIDTH}
    return ppl.train(
        traces,
        num_traces,
        observe_embeddings={"calorimeter": embedding},
        core=ppl.nn.LSTM(WIDTH),
        prior_share=PRIOR_SHARE,
        batch_size=BATCH,
        checkpoint=checkpoint,
        seed=seed,
    )
