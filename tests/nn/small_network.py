"""One small trained network that several test files share."""

from functools import cache

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
