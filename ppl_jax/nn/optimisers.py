"""Optimisers by name, over optax: Adam, Adam with layer-wise adaptive rates, schedules, clipping."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import optax

_DECAY = 30.0  # by how much the learning rate falls over a training


def make_optimiser(
    optimizer: str | optax.GradientTransformation,
    learning_rate: float | optax.Schedule,
    schedule: str,
    clip_norm: float,
    steps: int,
) -> optax.GradientTransformation:
    """The transformation that ``ppl_jax.train`` applies to gradients.

    Args:
      optimizer: "adam", "adam-larc", or a transformation that is used as it is, after clipping.
      learning_rate: of the first step, or a schedule.
      schedule: "polynomial", "cosine" or "constant".
      clip_norm: largest global norm.
      steps: how many steps there will be.

    Raises:
      ValueError: an unknown name, or a number that is not positive.
    """
    if not clip_norm > 0.0:
        raise ValueError(f"clip_norm must be positive, got {clip_norm!r}.")
    clip = optax.clip_by_global_norm(clip_norm)
    if not isinstance(optimizer, str):
        if not isinstance(optimizer, optax.GradientTransformation):
            raise ValueError(f"optimizer must be 'adam', 'adam-larc' or an optax transformation, got {optimizer!r}.")
        return optax.chain(clip, optimizer)
    if optimizer not in ("adam", "adam-larc"):
        raise ValueError(f"optimizer must be 'adam', 'adam-larc' or an optax transformation, got {optimizer!r}.")
    rate = _schedule(learning_rate, schedule, steps)
    if optimizer == "adam":
        return optax.chain(clip, optax.scale_by_adam(), optax.scale_by_learning_rate(rate))
    return optax.chain(clip, optax.scale_by_adam(), larc(rate))


def _schedule(learning_rate: Any, schedule: str, steps: int) -> optax.Schedule:
    if callable(learning_rate):
        return learning_rate
    if not learning_rate > 0.0:
        raise ValueError(f"learning_rate must be positive, got {learning_rate!r}.")
    if schedule == "constant":
        return optax.constant_schedule(learning_rate)
    if schedule == "cosine":
        return optax.cosine_decay_schedule(learning_rate, steps, alpha=1.0 / _DECAY)
    if schedule == "polynomial":
        return optax.polynomial_schedule(learning_rate, learning_rate / _DECAY, power=2, transition_steps=steps)
    raise ValueError(f"schedule must be 'polynomial', 'cosine' or 'constant', got {schedule!r}.")


def larc(learning_rate: optax.Schedule, trust: float = 2e-3, smallest: float = 1e-8) -> optax.GradientTransformation:
    """Layer-wise adaptive rate control: the learning rate, or less where a layer's update is large beside its weights.

    The rate of a layer is min(learning_rate, trust * |weights| / |update|): You, Gitman & Ginsburg, "Large batch
    training of convolutional networks" (2017), equation 6, cut off at the global rate. Layers of zeros use the global
    rate.
    """

    def init(params: Any) -> Any:
        return jnp.zeros((), jnp.int32)

    def update(updates: Any, count: Any, params: Any = None) -> Any:
        rate = learning_rate(count)

        def scaled(step: jax.Array, weights: jax.Array) -> jax.Array:
            size, length = jnp.linalg.norm(weights), jnp.linalg.norm(step)
            local = jnp.where(size > 0.0, trust * size / (length + smallest), rate)
            return -jnp.minimum(local, rate) * step

        return jax.tree.map(scaled, updates, params), count + 1

    return optax.GradientTransformation(init, update)
