"""Cores: what a network remembers of the draws made so far in an execution.

A core maps the inputs of tokens to features, in two ways that agree: a whole grid at once in training, where several
traces stand behind one another in a row, and token by token in a guided execution, with an explicit state. Both ways
give a token's features from its own trace alone.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from ppl_jax.nn.affine import Affine, outer

State = Any


@dataclass(frozen=True)
class LSTM:
    """A long short-term memory of ``width`` units."""

    width: int = 256


@dataclass(frozen=True)
class FeedForward:
    """``depth`` layers of ``width`` units that see the observations and the previous draw, and remember nothing."""

    width: int = 256
    depth: int = 2


@dataclass(frozen=True)
class Transformer:
    """Causal attention over the last ``window`` draws of the same execution.

    ``width`` features, ``depth`` layers, ``heads`` of attention. The window bounds both memory and time, whatever the
    length of an execution.
    """

    width: int = 128
    depth: int = 2
    heads: int = 4
    window: int = 64


CoreConfig = LSTM | FeedForward | Transformer
_CORES: dict[str, Any] = {"lstm": LSTM, "feedforward": FeedForward, "transformer": Transformer}


def core_config(core: Any) -> CoreConfig:
    """The configuration that a user's ``core`` means: a name, or a configuration itself.

    Raises:
      ValueError: an unknown name, or sizes that are not positive.
    """
    if isinstance(core, str) and core in _CORES:
        return _CORES[core]()
    if not isinstance(core, (LSTM, FeedForward, Transformer)):
        raise ValueError(
            f"core must be one of {', '.join(map(repr, _CORES))}, or ppl_jax.nn.LSTM(width=...), FeedForward(...) or "
            f"Transformer(...); got {core!r}."
        )
    if min(asdict(core).values()) < 1:
        raise ValueError(f"All sizes of a core must be at least 1, got {core!r}.")
    if isinstance(core, Transformer) and core.width % core.heads:
        raise ValueError(f"The width of a Transformer must be a multiple of its heads, got {core!r}.")
    return core


def core_to_json(core: CoreConfig) -> dict[str, Any]:
    """The configuration as JSON; ``core_from_json`` undoes it."""
    return {"kind": next(name for name, kind in _CORES.items() if kind is type(core)), **asdict(core)}


def core_from_json(data: dict[str, Any]) -> CoreConfig:
    """See ``core_to_json``."""
    numbers = dict(data)
    return _CORES[numbers.pop("kind")](**numbers)


def make_core(core: CoreConfig) -> nn.Module:
    """The module of a configuration."""
    if isinstance(core, LSTM):
        return LSTMCore(core.width)
    if isinstance(core, FeedForward):
        return FeedForwardCore(core.width, core.depth)
    return TransformerCore(core.width, core.depth, core.heads, core.window)


def initial_state(core: CoreConfig, n: int) -> State:
    """The state of n executions that have drawn nothing, as numpy arrays with n rows."""
    if isinstance(core, LSTM):
        return np.zeros((n, core.width), np.float32), np.zeros((n, core.width), np.float32)
    if isinstance(core, FeedForward):
        return ()
    return np.zeros(n, np.int32), np.zeros((n, core.depth, 2, core.window, core.width), np.float32)


class LSTMCore(nn.Module):
    """See :class:`LSTM`. Its state is the pair (h, c), each (n, width)."""

    width: int

    def setup(self) -> None:
        self.inward = Affine(4 * self.width, name="inward")
        self.recurrent = self.param("recurrent", nn.initializers.orthogonal(), (self.width, 4 * self.width))

    def __call__(self, inputs: jax.Array, start: jax.Array) -> jax.Array:
        """Features (R, T, width) of a grid of inputs (R, T, d); ``start``, bool (R, T), marks first tokens."""
        rows, length, _ = inputs.shape
        if length == 1:  # nothing is remembered yet, so there is nothing to multiply
            return self._update(self.inward(inputs)[:, 0], jnp.zeros((rows, self.width)))[0][:, None]
        # Time goes first from the start: the inputs are narrower than the gates made of them.
        gates = self.inward(inputs.swapaxes(0, 1))
        kept = 1.0 - start.swapaxes(0, 1)[..., None].astype(gates.dtype)
        return remember(gates, kept, self.recurrent).swapaxes(0, 1)

    def step(self, state: State, inputs: jax.Array) -> tuple[State, jax.Array]:
        """The next state and the features (n, width) of one token of each of n executions; inputs (n, d)."""
        state = self._update(self.inward(inputs) + state[0] @ self.recurrent, state[1])
        return state, state[0]

    @staticmethod
    def _update(gates: jax.Array, c: jax.Array) -> tuple[jax.Array, jax.Array]:
        enter, keep, candidate, leave = _activated(gates)
        c = keep * c + enter * candidate
        return leave * jnp.tanh(c), c


def _activated(gates: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    enter, keep, candidate, leave = jnp.split(gates, 4, axis=-1)
    return nn.sigmoid(enter), nn.sigmoid(keep + 1.0), jnp.tanh(candidate), nn.sigmoid(leave)


@jax.custom_vjp
def remember(gates: jax.Array, kept: jax.Array, recurrent: jax.Array) -> jax.Array:
    """The features (T, R, width) of an LSTM over T steps.

    The derivative is written by hand. The one of the recurrent matrix is then a single large product after the loop
    over time, instead of one, and a sum of matrices, in each of its steps; and both loops write what they find over
    what they read, because memory that a step touches for the first time costs as much as computing what is put there.

    Args:
      gates: what the inputs contribute to the gates, (T, R, 4 * width).
      kept: 0 where a trace begins and nothing is remembered, else 1, (T, R, 1).
      recurrent: (width, 4 * width).
    """
    return _remember(gates, kept, recurrent)[0]


def _remember(gates: jax.Array, kept: jax.Array, recurrent: jax.Array) -> tuple[jax.Array, Any]:
    length, rows, _ = gates.shape
    nothing = jnp.zeros((rows, recurrent.shape[0]), gates.dtype)
    empty = jnp.zeros((length, *nothing.shape), gates.dtype)

    def step(time: jax.Array, carried: Any) -> Any:
        h, c, gate, features, cells, totals = carried
        total = gate + (h * _at(kept, time)) @ recurrent
        h, c = LSTMCore._update(total, c * _at(kept, time))
        totals = _put(totals, total, time)
        # The next row is read here: were it read in the next step, beside the writing of that step, XLA would copy all.
        gate = _at(totals, jnp.minimum(time + 1, length - 1))
        return h, c, gate, _put(features, h, time), _put(cells, c, time), totals

    first = (nothing, nothing, gates[0], empty, empty, gates)
    *_, features, cells, totals = jax.lax.fori_loop(0, length, step, first)
    return features, (features, cells, totals, kept, recurrent)


def _remember_backward(saved: Any, towards: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    features, cells, totals, kept, recurrent = saved
    length = len(features)
    nothing = jnp.zeros_like(features[0])
    transposed = recurrent.T

    def step(number: jax.Array, carried: Any) -> Any:
        d_h, d_c, totals = carried
        time = length - 1 - number
        keep = _at(kept, time)
        enter, hold, candidate, leave = _activated(_at(totals, time))
        bent = jnp.tanh(_at(cells, time))
        earlier = _at(cells, jnp.maximum(time - 1, 0)) * keep  # before the first step nothing is kept
        d_h = d_h + _at(towards, time)
        d_c = d_c + d_h * leave * (1.0 - bent * bent)
        d_total = jnp.concatenate(
            [
                d_c * candidate * enter * (1.0 - enter),
                d_c * earlier * hold * (1.0 - hold),
                d_c * enter * (1.0 - candidate * candidate),
                d_h * bent * leave * (1.0 - leave),
            ],
            axis=-1,
        )
        return (d_total @ transposed) * keep, d_c * hold * keep, _put(totals, d_total, time)

    *_, d_totals = jax.lax.fori_loop(0, length, step, (nothing, nothing, totals))
    remembered = jnp.concatenate([nothing[None], features[:-1]]) * kept
    return d_totals, jnp.zeros_like(kept), outer(remembered, d_totals)


def _at(rows: jax.Array, time: jax.Array) -> jax.Array:
    return jax.lax.dynamic_index_in_dim(rows, time, keepdims=False)


def _put(rows: jax.Array, row: jax.Array, time: jax.Array) -> jax.Array:
    return jax.lax.dynamic_update_index_in_dim(rows, row, time, 0)


remember.defvjp(_remember, _remember_backward)


class FeedForwardCore(nn.Module):
    """See :class:`FeedForward`. Its state is empty."""

    width: int
    depth: int

    def setup(self) -> None:
        self.layers = [nn.Dense(self.width) for _ in range(self.depth)]

    def __call__(self, inputs: jax.Array, start: jax.Array) -> jax.Array:
        """Features (R, T, width); ``start`` does not matter."""
        features = inputs
        for layer in self.layers:
            features = nn.gelu(layer(features))
        return features

    def step(self, state: State, inputs: jax.Array) -> tuple[State, jax.Array]:
        """The features (n, width) of one token of each of n executions."""
        return state, self(inputs, inputs)


class TransformerCore(nn.Module):
    """See :class:`Transformer`. Its state: how many tokens there were, int32 (n,); keys and values of the last ones.

    Keys and values are kept in a ring of ``window`` places, so that a step costs the same however long an execution is.
    Distances between draws enter as a bias learned for each head (a distance is all that a ring can tell).
    """

    width: int
    depth: int
    heads: int
    window: int

    def setup(self) -> None:
        self.inward = nn.Dense(self.width)
        self.blocks = [_Block(self.width, self.heads, self.window) for _ in range(self.depth)]
        self.norm = nn.LayerNorm()

    def __call__(self, inputs: jax.Array, start: jax.Array) -> jax.Array:
        """Features (R, T, width): a token sees its own trace's tokens up to itself, ``window`` of them."""
        x = self.inward(inputs)
        length = x.shape[1]
        trace = jnp.cumsum(start, axis=1)
        distance = jnp.arange(length)[:, None] - jnp.arange(length)
        seen = (distance >= 0) & (distance < self.window) & (trace[:, :, None] == trace[:, None, :])
        for block in self.blocks:
            x = block(x, seen, jnp.clip(distance, 0, self.window - 1))
        return self.norm(x)

    def step(self, state: State, inputs: jax.Array) -> tuple[State, jax.Array]:
        """The next state and the features (n, width) of one token of each of n executions; inputs (n, d)."""
        count, ring = state
        x = self.inward(inputs)
        age = (count[:, None] - jnp.arange(self.window)) % self.window  # of each place of the ring; 0 is the new token
        seen = age <= count[:, None]
        layers = []
        for number, block in enumerate(self.blocks):
            x, pair = block.step(x, ring[:, number], count % self.window, age, seen)
            layers.append(pair)
        return (count + 1, jnp.stack(layers, axis=1)), self.norm(x)


class _Block(nn.Module):
    width: int
    heads: int
    window: int

    def setup(self) -> None:
        self.before, self.between = nn.LayerNorm(), nn.LayerNorm()
        self.query, self.key, self.value, self.out = (nn.Dense(self.width) for _ in range(4))
        self.wide, self.narrow = nn.Dense(2 * self.width), nn.Dense(self.width)
        self.bias = self.param("bias", nn.initializers.zeros, (self.heads, self.window))

    def __call__(self, x: jax.Array, seen: jax.Array, distance: jax.Array) -> jax.Array:
        y = self.before(x)
        q, k, v = (self._split(layer(y)) for layer in (self.query, self.key, self.value))
        scores = jnp.einsum("rthd,rshd->rhts", q, k) + self.bias[:, distance]
        shares = nn.softmax(jnp.where(seen[:, None], scores, -jnp.inf))
        return self._finish(x, jnp.einsum("rhts,rshd->rthd", shares, v).reshape(x.shape))

    def step(
        self, x: jax.Array, ring: jax.Array, place: jax.Array, age: jax.Array, seen: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        y = self.before(x)
        here = (jnp.arange(self.window) == place[:, None])[..., None]
        keys = jnp.where(here, self.key(y)[:, None], ring[:, 0])
        values = jnp.where(here, self.value(y)[:, None], ring[:, 1])
        q, k, v = self._split(self.query(y)), self._split(keys), self._split(values)
        scores = jnp.einsum("nhd,nshd->nhs", q, k) + jnp.moveaxis(self.bias[:, age], 0, 1)
        shares = nn.softmax(jnp.where(seen[:, None], scores, -jnp.inf))
        x = self._finish(x, jnp.einsum("nhs,nshd->nhd", shares, v).reshape(x.shape))
        return x, jnp.stack([keys, values], axis=1)

    def _split(self, x: jax.Array) -> jax.Array:
        return x.reshape(*x.shape[:-1], self.heads, self.width // self.heads) * (self.width // self.heads) ** -0.25

    def _finish(self, x: jax.Array, attended: jax.Array) -> jax.Array:
        x = x + self.out(attended)
        return x + self.narrow(nn.gelu(self.wide(self.between(x))))
