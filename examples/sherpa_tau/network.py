"""The network that proposes how a tau lepton decayed, from the image of the calorimeter."""

from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

import ppl_jax as ppl

BATCH = 128
WIDTH = 128  # of the embedding and of the LSTM


class CalorimeterCNN(nn.Module):
    """A three-dimensional convolutional network: float32 (n, depth, height, width) to (n, dim).

    Each layer looks at neighbourhoods of 3 x 3 x 3 in steps of 2. They are cut out as slices and multiplied as one
    matrix: XLA's own gradient of a convolution in three dimensions is 50 times slower on a CPU.
    """

    dim: int = WIDTH
    channels: tuple[int, ...] = (16, 32, 64)

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """See the class."""
        x = x[..., None]
        for channels in self.channels:
            x = nn.relu(nn.Dense(channels)(neighbourhoods(x)))
        x = nn.relu(nn.Dense(2 * self.dim)(x.reshape(x.shape[0], -1)))
        return nn.Dense(self.dim)(x)


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
        batch_size=BATCH,
        checkpoint=checkpoint,
        seed=seed,
    )
