"""The uniforms of PPX's random streams (PROTOCOL.md, section 11): Philox4x32-10, any block without those before it.

Salmon et al., "Parallel random numbers: as easy as 1, 2, 3" (SC11).
"""

from __future__ import annotations

from typing import Any

import numpy as np

_M0, _M1 = 0xD2511F53, 0xCD9E8D57
_W0, _W1 = 0x9E3779B9, 0xBB67AE85
_LOW = 0xFFFFFFFF

PREFETCHED_BLOCKS = 8  # two uniforms each: most small programs never need a second refill
BATCH = 256  # executions whose first uniforms are computed together


def philox(counter: tuple, key: tuple[int, int]) -> tuple:
    """Philox4x32-10 of four counter words under a key of two 32-bit words.

    The words are uint64 arrays that hold 32-bit values, or Python integers of 32 bits. Returns four of the same kind,
    of the counters' broadcast shape, each value below 2**32.
    """
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(10):
        p0, p1 = _M0 * c0, _M1 * c2
        c0, c1, c2, c3 = (p1 >> 32) ^ c1 ^ k0, p1 & _LOW, (p0 >> 32) ^ c3 ^ k1, p0 & _LOW
        k0, k1 = (k0 + _W0) & _LOW, (k1 + _W1) & _LOW
    return c0, c1, c2, c3


def pair(seed: int, block: Any, index: Any) -> tuple[Any, Any]:
    """The two uniforms of a block of a stream: of arrays (uint64) arrays, of integers floats."""
    seed = int(seed)  # one of numpy's would turn arrays into another kind
    words = philox((block & _LOW, block >> 32, index & _LOW, index >> 32), (seed & _LOW, (seed >> 32) & _LOW))
    first, second = (((low | (high << 32)) >> 12) for low, high in (words[:2], words[2:]))
    return (first + 0.5) * 2.0**-52, (second + 0.5) * 2.0**-52


def uniforms(seed: int, indices: np.ndarray, first_block: int, num_blocks: int) -> np.ndarray:
    """Uniforms of blocks ``first_block ... first_block + num_blocks - 1`` of streams ``(seed, index)``.

    ``indices``: uint64, shape (n,). Returns float64, shape (n, 2 * num_blocks), all strictly inside (0, 1).
    """
    blocks = np.arange(first_block, first_block + num_blocks, dtype=np.uint64)[None, :]
    index = indices.astype(np.uint64)[:, None]
    pairs = np.stack(pair(seed, *np.broadcast_arrays(blocks, index)), axis=-1)
    return pairs.reshape(len(index), 2 * num_blocks)
