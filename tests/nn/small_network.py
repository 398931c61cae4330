"""One small trained network that several test files share, and parameters for modules that need no training."""

import math
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import programs

import ppl_jax as ppl
from ppl_jax.nn import FeedForward

SMALL = {
    "core": FeedForward(16, 1), "mixture_components": 3, "batch_size": 64, "learning_rate": 1e-2, "progress": False
}  # fmt: skip


@cache
def gum_network():
    """Trained on 16,000 traces of GUM."""
    return ppl.train(programs.gum, 16_000, seed=0, **SMALL)


def some_parameters(module, *inputs):
    """Random parameters for a module and such inputs, by numpy: compiling the module's own takes seconds."""
    rng = np.random.default_rng(0)

    def drawn(leaf):
        return jnp.asarray(rng.normal(size=leaf.shape) / math.sqrt(math.prod(leaf.shape[:-1])), leaf.dtype)

    return jax.tree.map(drawn, jax.eval_shape(module.init, jax.random.key(0), *inputs))
