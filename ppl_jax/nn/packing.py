"""Parameters as few arrays: the large ones as they are, all small ones joined to one vector.

An optimiser goes over the parameters array by array. Were each of dozens its own, the compiled step would have as many
loops; were all of them joined, a step would copy millions of numbers to and fro. Most arrays are small, and most
numbers are in a few large arrays.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

_LARGE = 1 << 15  # numbers from which on an array stands alone


class Packed(NamedTuple):
    """A tree of arrays, packed: the large leaves in their order, and the others in one vector."""

    large: tuple[Any, ...]
    small: Any


class Packing:
    """How trees of one structure are packed.

    Args:
      shapes: a tree of anything with a shape.
    """

    def __init__(self, shapes: Any):
        leaves, self._structure = jax.tree.flatten(shapes)
        self._shapes: Sequence[tuple[int, ...]] = [tuple(leaf.shape) for leaf in leaves]
        self._is_large = [math.prod(shape) >= _LARGE for shape in self._shapes]

    def pack(self, tree: Any, xp: Any = jnp) -> Packed:
        """A tree of this structure, packed; by ``jax.numpy``, or by ``numpy``, which compiles nothing."""
        leaves = jax.tree.leaves(tree)
        large = tuple(xp.asarray(leaf) for leaf, alone in zip(leaves, self._is_large, strict=True) if alone)
        small = [xp.ravel(leaf) for leaf, alone in zip(leaves, self._is_large, strict=True) if not alone]
        return Packed(large, xp.concatenate(small) if small else xp.zeros(0, xp.float32))

    def unpack(self, packed: Packed) -> Any:
        """Undoes ``pack``."""
        large, leaves, start = iter(packed.large), [], 0
        for shape, alone in zip(self._shapes, self._is_large, strict=True):
            if alone:
                leaves.append(next(large))
                continue
            stop = start + math.prod(shape)
            leaves.append(packed.small[start:stop].reshape(shape))
            start = stop
        return jax.tree.unflatten(self._structure, leaves)
