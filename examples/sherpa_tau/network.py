"""The network that proposes how a tau lepton decayed, from the image of the calorimeter."""

from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

import ppl_jax as ppl

BATCH = 64
# Seven draws are proposed one after the other: a weight may be as large as the seventh power of this share's inverse.
PRIOR_SHARE = 0.05
WIDTH = 128  # of the embedding and of the LSTM
REACH = 2  # voxels to each side of the brightest place that are looked at closely


class CalorimeterCNN(nn.Module):
    """A network that finds showers in three dimensions: float32 images (n, depth, height, width) to (n, dim).

    Where a shower is, among hundreds of places with nothing but noise, matters most, and to a fraction of a voxel. So
    the network is given filtered images, in which a shower stands out of the noise, and learns from them in three ways:

    - several heads vote for places; where the votes fall (mean coordinates) and what is there (mean features) tells of
      showers that are hardly seen;
    - the surroundings of the brightest place are cut out: their voxels, and the shower's centre and width;
    - two convolutional layers see the whole; each looks at neighbourhoods of 3 x 3 x 3 in steps of 2. They are cut out
      as slices and multiplied as one matrix: XLA's own gradient of a convolution in three dimensions is 50 times
      slower on a CPU.
    """

    dim: int = WIDTH
    channels: tuple[int, ...] = (16, 32)
    heads: int = 8

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """See the class."""
        filters = filtered(x)
        where, what = brightest(x, filters.max(axis=(1, 4)))
        votes = nn.Dense(self.heads)(nn.relu(nn.Dense(2 * self.heads)(filters)))
        whole = filters
        for channels in self.channels:
            whole = nn.relu(nn.Dense(channels)(neighbourhoods(whole)))
        seen = jnp.concatenate([where, what, attend(filters, votes), whole.reshape(x.shape[0], -1)], axis=-1)
        return nn.Dense(self.dim)(nn.relu(nn.Dense(2 * self.dim)(seen))) + nn.Dense(self.dim)(where)


def filtered(x: jax.Array) -> jax.Array:
    """Images as showers of several sizes stand out in them: (n, depth, height, width) to (n, depth, height, width, 5).

    The voxels themselves; means of neighbours across, weighted 1 : 2 : 1; sums of these through the front half and
    through the whole depth; and unweighted means of 3 x 3 through the whole depth. All are of unit noise if x is.
    """
    depth = x.shape[1]
    narrow = _blurred(_blurred(x, 2, 2.0), 3, 2.0)
    wide = _blurred(_blurred(x, 2, 1.0), 3, 1.0)
    columns = [(narrow, -(-depth // 2)), (narrow, depth), (wide, depth)]
    through = [
        jnp.broadcast_to(part[:, :layers].sum(axis=1, keepdims=True), x.shape) / layers**0.5 for part, layers in columns
    ]
    return jnp.stack([x, narrow, *through], axis=-1)


def _blurred(x: jax.Array, axis: int, middle: float) -> jax.Array:
    """Every element, times ``middle``, with the two beside it along an axis; of unit noise if x is."""
    padded = jnp.pad(x, [(1, 1) if number == axis else (0, 0) for number in range(x.ndim)])
    before, after = (jax.lax.slice_in_dim(padded, k, k + x.shape[axis], axis=axis) for k in (0, 2))
    return (before + middle * x + after) / (2.0 + middle**2) ** 0.5


def brightest(x: jax.Array, signal: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Where an image is brightest, and what is there.

    Args:
      x: images, (n, depth, height, width).
      signal: what stands out of the noise at each place across, (n, height, width).

    Returns:
      where: the brightest place, and the centre of what is around it, (n, 4): x and y of each, from -1 to 1.
      what: the voxels around it, as they are and as shares of their sum; their depth profile; and of their sum
        the centre, the width and the logarithm; the signal. (n, features)
    """
    n, depth, height, width = x.shape
    size = 2 * REACH + 1
    flat = signal.reshape(n, -1)
    top, place = flat.max(axis=1), flat.argmax(axis=1)
    row, column = place // width, place % width
    padded = jnp.pad(x, ((0, 0), (0, 0), (REACH, REACH), (REACH, REACH)))
    around = jax.vmap(lambda image, i, j: jax.lax.dynamic_slice(image, (0, i, j), (depth, size, size)))(
        padded, row, column
    )
    energy = jnp.maximum(around, 0.0)
    total = energy.sum(axis=(1, 2, 3)) + 1.0
    offset = jnp.arange(-REACH, REACH + 1.0)
    middle, across = [], []
    for profile in (energy.sum(axis=(1, 2)), energy.sum(axis=(1, 3))):  # along x, along y: (n, size) each
        middle.append(profile @ offset / total)
        across.append(profile @ offset**2 / total)
    coarse = [(column - 0.5 * (width - 1)) / (0.5 * width), (row - 0.5 * (height - 1)) / (0.5 * height)]
    fine = [coarse[0] + middle[0] / (0.5 * width), coarse[1] + middle[1] / (0.5 * height)]
    numbers = jnp.stack([*middle, *across, jnp.log(total), top / 8.0, jnp.log1p(jnp.maximum(top, 0.0))], axis=-1)
    shares = 4.0 * around / total[:, None, None, None]
    what = [numbers, around.sum(axis=(2, 3)) / 8.0, around.reshape(n, -1) / 4.0, shares.reshape(n, -1)]
    return jnp.stack([*coarse, *fine], axis=-1), jnp.concatenate(what, axis=-1)


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
