"""Dense layers whose derivative multiplies arrays as they lie in memory.

The layer is Flax's ``Dense``, parameter for parameter, over features that may come in several parts. Its derivative is
written by hand: left to itself, XLA computes the transpose of the matrix's on CPUs and copies the large factor to do
so, at half the speed of the product below, and joins the parts first. The derivative of the bias is one more row of a
product.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp


class Affine(nn.Module):
    """``concatenate(parts, -1) @ kernel + bias``, with ``features`` outputs, and no concatenation."""

    features: int

    @nn.compact
    def __call__(self, *parts: jax.Array) -> jax.Array:
        """Arrays (..., d1), (..., d2), ... to (..., features)."""
        size = sum(part.shape[-1] for part in parts)
        kernel = self.param("kernel", nn.initializers.lecun_normal(), (size, self.features))
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        return affine(parts, kernel, bias)


@jax.custom_vjp
def affine(parts: Sequence[jax.Array], kernel: jax.Array, bias: jax.Array) -> jax.Array:
    """Parts (..., d1), (..., d2), ... with the matrix (d1 + d2 + ..., features) and the bias, to (..., features)."""
    *first, last = _rows(parts, kernel)
    total = _with_one(parts[-1]) @ jnp.concatenate([last, bias[None]])
    for part, rows in zip(parts, first, strict=False):
        total = total + part @ rows
    return total


def _forward(parts: Sequence[jax.Array], kernel: jax.Array, bias: jax.Array) -> tuple[jax.Array, Any]:
    return affine(parts, kernel, bias), (parts, kernel)


def _backward(saved: Any, towards: jax.Array) -> tuple[tuple[jax.Array, ...], jax.Array, jax.Array]:
    parts, kernel = saved
    inwards = tuple(towards @ rows.T for rows in _rows(parts, kernel))
    joint = jnp.concatenate([outer(part, towards) for part in (*parts[:-1], _with_one(parts[-1]))])
    return inwards, joint[:-1], joint[-1]


affine.defvjp(_forward, _backward)


def _rows(parts: Sequence[jax.Array], kernel: jax.Array) -> list[jax.Array]:
    """The rows of the matrix that belong to each part."""
    start, found = 0, []
    for part in parts:
        stop = start + part.shape[-1]
        found.append(kernel[start:stop])
        start = stop
    return found


def _with_one(inputs: jax.Array) -> jax.Array:
    return jnp.concatenate([inputs, jnp.ones((*inputs.shape[:-1], 1), inputs.dtype)], axis=-1)


def outer(inputs: jax.Array, towards: jax.Array) -> jax.Array:
    """The derivative (d, features) of a matrix: the sum over all rows of inputs (..., d) times (..., features)."""
    rows, columns = inputs.reshape(-1, inputs.shape[-1]), towards.reshape(-1, towards.shape[-1])
    return jax.lax.dot_general(rows, columns, (((0,), (0,)), ((), ())))
