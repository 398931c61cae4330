"""Optimisers by name, over optax: Adam, Adam with layer-wise adaptive rates, schedules, clipping.

The learning rate is an argument of a step, not part of it: trainings of any length then share one compiled step.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree

NAMED = ("adam", "adam-larc")
_DECAY = 30.0  # by how much the learning rate falls over a training
_TRUST, _SMALLEST = 2e-3, 1e-8


def direction(optimizer: str | optax.GradientTransformation, clip_norm: float) -> optax.GradientTransformation:
    """From gradients to the direction of a step: clipping, then Adam or the user's transformation.

    Raises:
      ValueError: an unknown name, or a norm that is not positive.
    """
    if not clip_norm > 0.0:
        raise ValueError(f"clip_norm must be positive, got {clip_norm!r}.")
    clip = optax.clip_by_global_norm(clip_norm)
    if isinstance(optimizer, optax.GradientTransformation):
        return optax.chain(clip, optimizer)
    if optimizer not in NAMED:
        raise ValueError(f"optimizer must be 'adam', 'adam-larc' or an optax transformation, got {optimizer!r}.")
    return optax.chain(clip, optax.scale_by_adam())


def step_of(
    optimizer: str, towards: jax.Array, params: jax.Array, rate: jax.Array, unravel: Callable[[jax.Array], Any]
) -> jax.Array:
    """The change of the parameters (one vector) from a direction and the learning rate.

    ``unravel`` divides a vector into layers.
    """
    if optimizer == "adam":
        return -rate * towards
    change = jax.tree.map(lambda step, weights: _larc(step, weights, rate), unravel(towards), unravel(params))
    return ravel_pytree(change)[0]


def _larc(step: jax.Array, weights: jax.Array, rate: jax.Array) -> jax.Array:
    """Layer-wise adaptive rate control: the learning rate, or less where a layer's step is large beside its weights.

    The rate is min(rate, trust * |weights| / |step|): You, Gitman & Ginsburg, "Large batch training of convolutional
    networks" (2017), equation 6, cut off at the global rate. Layers of zeros use the global rate.
    """
    size, length = jnp.linalg.norm(weights), jnp.linalg.norm(step)
    local = jnp.where(size > 0.0, _TRUST * size / (length + _SMALLEST), rate)
    return -jnp.minimum(local, rate) * step


def rates(learning_rate: float | optax.Schedule, schedule: str, steps: int) -> Callable[[int], Any]:
    """The learning rate as a function of the number of the step.

    Args:
      learning_rate: of the first step; or an optax schedule, which is returned.
      schedule: "polynomial", "cosine" or "constant".
      steps: how many steps there will be.

    Raises:
      ValueError: an unknown name, or a rate that is not positive.
    """
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
