"""Optimisers by name, over optax: Adam, Adam with layer-wise adaptive rates, schedules, clipping.

The learning rate is an argument of a step, not part of it: trainings of any length then share one compiled step. Adam
is written out, so that one pass over the gradient clips it and moves the moments, and one moves the parameters, each in
place.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from ppl_jax.nn.packing import Packed, Packing

NAMED = ("adam", "adam-larc")
_DECAY = 30.0  # by how much the learning rate falls over a training
_TRUST, _SMALLEST = 2e-3, 1e-8
_MEAN, _SQUARE, _EPSILON = 0.9, 0.999, 1e-8  # Adam's decays, and what keeps its quotient finite


class Moments(NamedTuple):
    """Adam's state: steps so far, int32 (); running means of the gradient and of its square, as the parameters."""

    count: Any
    mean: Any
    square: Any


def check_optimiser(optimizer: str | optax.GradientTransformation, clip_norm: float) -> None:
    """Raises ValueError for an unknown name, or a norm that is not positive."""
    if not clip_norm > 0.0:
        raise ValueError(f"clip_norm must be positive, got {clip_norm!r}.")
    if not isinstance(optimizer, optax.GradientTransformation) and optimizer not in NAMED:
        raise ValueError(f"optimizer must be 'adam', 'adam-larc' or an optax transformation, got {optimizer!r}.")


def first_state(optimizer: str | optax.GradientTransformation, packing: Packing, params: Packed) -> Any:
    """The state of an optimiser before the first step."""
    if isinstance(optimizer, optax.GradientTransformation):
        return optimizer.init(packing.unpack(params))
    nothing = jax.tree.map(jnp.zeros_like, params)
    return Moments(jnp.zeros((), jnp.int32), nothing, jax.tree.map(jnp.copy, nothing))


def moved(
    optimizer: str | optax.GradientTransformation,
    packing: Packing,
    params: Packed,
    state: Any,
    gradient: Packed,
    shrunk: jax.Array,
    rate: jax.Array,
    move: jax.Array,
) -> tuple[Packed, Any]:
    """The parameters and the state after a step.

    Args:
      optimizer, packing: whose parameters these are.
      params, state: before it.
      gradient: of the loss.
      shrunk: by what the gradient is multiplied so that its norm is at most the largest allowed; scalar.
      rate: the learning rate; not for a transformation of the user's, which has its own.
      move: whether to; where False, everything stays as it is.
    """
    if isinstance(optimizer, optax.GradientTransformation):
        gradient = jax.tree.map(lambda part: shrunk * part, gradient)
        change, new_state = optimizer.update(packing.unpack(gradient), state, packing.unpack(params))
        new = jax.tree.map(jnp.add, params, packing.pack(change)), new_state
        return jax.tree.map(lambda after, before: jnp.where(move, after, before), new, (params, state))
    count = state.count + move.astype(jnp.int32)

    def running(decay: float, power: int) -> Callable[[jax.Array, jax.Array], jax.Array]:
        return lambda old, part: jnp.where(move, decay * old + (1.0 - decay) * (shrunk * part) ** power, old)

    mean = jax.tree.map(running(_MEAN, 1), state.mean, gradient)
    square = jax.tree.map(running(_SQUARE, 2), state.square, gradient)
    counted = jnp.maximum(count, 1).astype(jnp.float32)
    share, square_share = 1.0 - _MEAN**counted, 1.0 - _SQUARE**counted

    def step(mean: jax.Array, square: jax.Array) -> jax.Array:
        return mean / share / (jnp.sqrt(square / square_share) + _EPSILON)

    if optimizer == "adam":
        local: Any = jax.tree.map(lambda _: rate, params)
    else:
        steps, weights = packing.unpack(jax.tree.map(step, mean, square)), packing.unpack(params)
        local = packing.pack(jax.tree.map(lambda s, w: jnp.full(s.shape, _larc(s, w, rate)), steps, weights))

    def after(weights: jax.Array, mean: jax.Array, square: jax.Array, rate: jax.Array) -> jax.Array:
        return jnp.where(move, weights - rate * step(mean, square), weights)

    return jax.tree.map(after, params, mean, square, local), Moments(count, mean, square)


def _larc(step: jax.Array, weights: jax.Array, rate: jax.Array) -> jax.Array:
    """Layer-wise adaptive rate control: the learning rate, or less where a layer's step is large beside its weights.

    The rate is min(rate, trust * |weights| / |step|): You, Gitman & Ginsburg, "Large batch training of convolutional
    networks" (2017), equation 6, cut off at the global rate. Layers of zeros use the global rate.
    """
    size, length = jnp.linalg.norm(weights), jnp.linalg.norm(step)
    local = jnp.where(size > 0.0, _TRUST * size / (length + _SMALLEST), rate)
    return jnp.minimum(local, rate)


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
