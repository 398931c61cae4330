"""The engines: each runs a model many times under its own handler and returns an Empirical of traces."""

from ppl_jax.infer.importance import importance_sampling, prior
from ppl_jax.infer.metropolis.engine import metropolis_hastings
from ppl_jax.infer.metropolis.kernels import Lightweight, RandomWalk
from ppl_jax.infer.nuts import nuts
from ppl_jax.infer.smc import smc

__all__ = ["Lightweight", "RandomWalk", "importance_sampling", "metropolis_hastings", "nuts", "prior", "smc"]
