"""The matrix products of a training step, counted from the traced program, and how fast the machine does them alone.

What they are set against is told apart: the rate of the LSTM's product, batch by width by four widths; and the seconds
that the step's own products take one by one, each in a program of its own. Padding counts as the products do it.
"""

import math
import time
from collections import Counter
from typing import Any

import jax
import numpy as np


def found_in(jaxpr: Any, times: int = 1) -> Counter[Any]:
    """How often each product, (shapes of both factors, dimension numbers), is done in a jaxpr."""
    found: Counter[Any] = Counter()
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            left, right = (tuple(value.aval.shape) for value in equation.invars)
            found[left, right, equation.params["dimension_numbers"]] += times
        inner = times * equation.params.get("length", 1) if equation.primitive.name == "scan" else times
        for part in jax.tree.leaves(list(equation.params.values()), is_leaf=_is_jaxpr):
            if _is_jaxpr(part):
                found += found_in(getattr(part, "jaxpr", part), inner)
    return found


def _is_jaxpr(part: Any) -> bool:
    return hasattr(part, "eqns") or hasattr(getattr(part, "jaxpr", None), "eqns")


def gflop(products: Counter[Any]) -> float:
    """What they are together, in 10 ** 9 operations; a multiplication and an addition are two."""
    total = 0.0
    for (left, right, ((contracted, _), (batched, _))), times in products.items():
        outer = math.prod(right) / math.prod(left[axis] for axis in (*contracted, *batched))
        total += 2e-9 * times * math.prod(left) * outer
    return total


def seconds_alone(products: Counter[Any], repeats: int = 5) -> float:
    """Seconds that the products take one by one, the best of several each; those of less than 0.1 % of all apart."""
    whole, total = gflop(products), 0.0
    rng = np.random.default_rng(0)
    for (left, right, numbers), times in products.items():
        if gflop(Counter({(left, right, numbers): times})) < 1e-3 * whole:
            continue
        factors = [jax.device_put(rng.normal(size=shape).astype(np.float32)) for shape in (left, right)]
        product = jax.jit(lambda a, b, numbers=numbers: jax.lax.dot_general(a, b, numbers))
        total += times * best(lambda product=product, factors=factors: product(*factors), repeats)
    return total


def best(work: Any, repeats: int) -> float:
    """The least of several times that ``work()`` takes, after a first call."""
    jax.block_until_ready(work())
    took = []
    for _ in range(repeats):
        begin = time.perf_counter()
        jax.block_until_ready(work())
        took.append(time.perf_counter() - begin)
    return min(took)


def limit(rows: int, width: int) -> float:
    """GFLOP/s of the product of an LSTM, (rows, width) by (width, 4 * width)."""
    shapes = (rows, width), (width, 4 * width)
    product = Counter({(*shapes, (((1,), (0,)), ((), ()))): 1})
    return gflop(product) / seconds_alone(product, 15)
