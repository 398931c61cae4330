"""One step of a training, compiled: loss, gradient, and the new parameters unless a number is not finite."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ppl_jax.encoding.batches import Batch
from ppl_jax.nn.network import NetworkConfig, grow, loss, packing_of
from ppl_jax.nn.optimisers import moved
from ppl_jax.nn.packing import Packed, Packing


class TrainingState(NamedTuple):
    """What a step changes: the parameters, packed; the state of the optimiser; how many steps in a row were skipped."""

    params: Packed
    optimiser: Any
    skipped: Any


class Outcome(NamedTuple):
    """What a step found: the loss in nats, NaN where it or the gradient is not finite; the norm of the gradient."""

    loss: Any
    norm: Any


@lru_cache(maxsize=64)
def compiled_training(config: NetworkConfig, optimizer: Any, clip_norm: float) -> tuple[Any, Any]:
    """The compiled step and the compiled loss; trainings of one configuration share them.

    The step is ``(state, batch, rate) -> (state, outcome)``, the loss ``(params, batch) -> loss``.
    """
    packing = packing_of(config)

    def evaluate(params: Packed, batch: Batch) -> jax.Array:
        return loss(config, packing.unpack(params), batch)

    update = partial(_update, partial(loss, config), packing, optimizer, clip_norm)
    return jax.jit(update, donate_argnums=0), jax.jit(evaluate)


def _update(
    evaluate: Callable[..., jax.Array],
    packing: Packing,
    optimizer: Any,
    clip_norm: float,
    state: TrainingState,
    batch: Batch,
    rate: jax.Array,
) -> tuple[TrainingState, Outcome]:
    """One step; where the loss or the gradient is not finite, nothing changes and the loss is NaN."""
    value, tree = jax.value_and_grad(evaluate)(packing.unpack(state.params), batch)
    gradient = packing.pack(tree)
    # As products of vectors, which write no array of squares.
    norm = jnp.sqrt(sum(jnp.vdot(part, part) for part in jax.tree.leaves(gradient)))
    finite = jnp.isfinite(value) & jnp.isfinite(norm)
    shrunk = jnp.where(norm < clip_norm, 1.0, clip_norm / norm)
    params, moments = moved(optimizer, packing, state.params, state.optimiser, gradient, shrunk, rate, finite)
    skipped = jnp.where(finite, 0, state.skipped + 1)
    return TrainingState(params, moments, skipped), Outcome(jnp.where(finite, value, jnp.nan), norm)


def enlarged(old: NetworkConfig, new: NetworkConfig, key: jax.Array | None, params: Packed) -> Packed:
    """Parameters with the tables of another configuration; new rows are drawn from ``key``, zero where it is None."""
    tree = packing_of(old).unpack(jax.tree.map(np.asarray, params))
    return jax.tree.map(jnp.array, packing_of(new).pack(grow(tree, old, new, key), np))


def enlarged_state(old: NetworkConfig, new: NetworkConfig, key: jax.Array, state: TrainingState) -> TrainingState:
    """The state of a training with the tables of another configuration."""

    def in_optimiser(part: Any) -> Any:
        if isinstance(part, Packed):
            return enlarged(old, new, None, part)
        return grow(part, old, new, None) if _is_parameters(part) else part

    optimiser = jax.tree.map(in_optimiser, state.optimiser, is_leaf=_is_parameters)
    return state._replace(params=enlarged(old, new, key, state.params), optimiser=optimiser)


def _is_parameters(part: Any) -> bool:
    """Whether a part of an optimiser's state has the structure of the parameters, packed or not."""
    return isinstance(part, Packed) or (isinstance(part, dict) and "heads" in part)
