"""A model as numpyro's samplers see it, and chains of NUTS on it; :mod:`ppl_jax.infer.nuts` imports it when it runs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
from numpyro import distributions as npd
from numpyro.infer import NUTS

from ppl_jax.distributions.delta import Delta
from ppl_jax.distributions.from_numpyro import trust
from ppl_jax.interop.numpyro import NUMPYRO_LOCK
from ppl_jax.language.site import Site
from ppl_jax.running.device import IMPLEMENTATION, words
from ppl_jax.running.progress import Progress
from ppl_jax.running.symbolic import SymbolicExecution, run_symbolically
from ppl_jax.streams import derive_seed


class TargetExecution(SymbolicExecution):
    """Raises the model's k-th latent as numpyro's site "k", and sums everything else into the weight.

    Args:
      observations: data by name.
      moving: which latents, by number, have bounds that depend on other latents. They are sampled on the real line and
        mapped to where the bounds are in this very execution; numpyro does so for scalars only.
    """

    __slots__ = ("mapped",)

    def __init__(self, observations: Mapping[str, Any], moving: frozenset[int]):
        super().__init__(None, observations, True, 1.0)
        self.mapped = moving

    def settle_latent(self, site: Site) -> None:
        """Lets numpyro choose the value."""
        site.proposal = None
        if isinstance(site.distribution, Delta):
            site.value = site.distribution.value
            return
        number = len(self.drawn)
        twin = site.distribution.to_numpyro()
        twin = twin.to_event(len(twin.batch_shape))
        if number in self.mapped:
            site.value = self._sample_moving(number, twin)
        else:
            site.value = numpyro.sample(str(number), twin)
        self.drawn.append(len(self.sites) - 1)

    def _sample_moving(self, number: int, twin: Any) -> jax.Array:
        trust(twin)
        transform = npd.biject_to(twin.support)
        shape = transform.inverse_shape(twin.event_shape)
        flat = npd.Normal(0.0, 1.0).expand(shape).to_event(len(shape)).mask(False)  # a density of 1 everywhere
        real = numpyro.sample(f"real {number}", flat)
        value = transform(real)
        self.log_weight += twin.log_prob(value) + transform.log_abs_det_jacobian(real, value)
        return numpyro.deterministic(str(number), value)

    def settle_fixed(self, site: Site) -> None:
        """A latent fixed by a handler is part of the target, whatever its distribution hangs on."""
        self.log_weight += site.log_prob


def target(
    model: Callable[[], Any], observations: Mapping[str, Any], ambient: tuple, moving: frozenset[int]
) -> Callable[[], None]:
    """The numpyro model whose joint density is that of ``model`` with the observations; see TargetExecution."""

    def numpyro_model() -> None:
        execution = TargetExecution(observations, moving)
        run_symbolically(execution, model, ambient)
        numpyro.factor("rest", execution.log_weight)

    return numpyro_model


class Chains(NamedTuple):
    """What chains of NUTS gave, chain after chain.

    Attributes:
      values: of each latent, (n, *shape).
      lengths: traces of each chain; shorter than wanted in an interrupted run.
      divergent: how many of the steps that were kept diverged.
      acceptance: mean acceptance probability of these.
      step_size: of each chain, after adaptation.
    """

    values: list[np.ndarray]
    lengths: list[int]
    divergent: int
    acceptance: float
    step_size: list[float]


def sample_chains(
    numpyro_model: Callable[[], None],
    lengths: Sequence[int],
    *,
    burn_in: int,
    thinning: int,
    seed: int,
    progress: Progress,
    **settings: Any,
) -> Chains | None:
    """Chains of NUTS, all of ``lengths`` (that of the first chain is the greatest), side by side.

    They advance in blocks of about half a second, between which Ctrl-C ends them: then what was kept until then is
    returned, None if that is nothing. Blocks do not change the numbers.

    Raises:
      RuntimeError: no starting point of non-zero density was found.
    """
    chains = len(lengths)
    key = jax.random.wrap_key_data(words(derive_seed(seed, _CHAINS)), impl=IMPLEMENTATION)
    kernel = NUTS(numpyro_model, **settings)
    with NUMPYRO_LOCK:
        state = kernel.init(key if chains == 1 else jax.random.split(key, chains), burn_in, None, (), {})
        advance = _compiled(kernel, chains)
        blocks: list[Any] = []
        try:
            for _, after in _in_blocks(advance, state, burn_in, 1, progress):
                state = after
            for block, after in _in_blocks(advance, state, lengths[0], thinning, progress):
                blocks.append(block)
                state = after
        except KeyboardInterrupt:
            if not blocks:
                return None
    kept = jax.tree.map(lambda *parts: np.concatenate(parts), *blocks)  # (n, ...), or (n, chains, ...) of several
    if chains == 1:
        kept = jax.tree.map(lambda values: values[:, None], kept)
    done = [min(length, len(kept.divergent)) for length in lengths]

    def in_order(values: np.ndarray) -> np.ndarray:
        return np.concatenate([values[:length, chain] for chain, length in enumerate(done)])

    return Chains(
        [in_order(kept.values[str(number)]) for number in range(len(kept.values))],
        done,
        int(in_order(kept.divergent).sum()),
        float(in_order(kept.acceptance).mean()),
        np.atleast_1d(np.asarray(state.adapt_state.step_size, dtype=np.float64)).tolist(),
    )


class _Kept(NamedTuple):
    """What is kept of a state of all chains."""

    values: Any
    divergent: Any
    acceptance: Any


def _compiled(kernel: NUTS, chains: int) -> Callable[..., Any]:
    """A function (state, count, thinning) -> (state, what was kept) of up to ``_BLOCK`` traces of every chain."""
    constrain = kernel.postprocess_fn((), {})
    constrain = constrain if chains == 1 else jax.vmap(constrain)

    def keep(state: Any) -> _Kept:
        values = {name: value for name, value in constrain(state.z).items() if name.isdecimal()}
        return _Kept(values, state.diverging, state.accept_prob)

    @jax.jit
    def advance(state: Any, count: Any, thinning: Any) -> Any:
        def trace(number: Any, carry: Any) -> Any:
            state, kept = carry
            state = jax.lax.fori_loop(0, thinning, lambda _, state: kernel.sample(state, (), {}), state)
            return state, jax.tree.map(lambda all_, one: all_.at[number].set(one), kept, keep(state))

        shapes = jax.eval_shape(keep, state)
        empty = jax.tree.map(lambda shape: jnp.zeros((_BLOCK, *shape.shape), shape.dtype), shapes)
        return jax.lax.fori_loop(0, count, trace, (state, empty))

    return advance


def _in_blocks(
    advance: Callable[..., Any], state: Any, total: int, thinning: int, progress: Progress
) -> Iterator[tuple[_Kept, Any]]:
    """``total`` traces in blocks of about half a second: what was kept, and the state after it."""
    count, done = 1, 0
    while done < total:
        count = min(count, total - done)
        begin = time.perf_counter()
        state, kept = jax.block_until_ready(advance(state, count, thinning))
        seconds = time.perf_counter() - begin
        yield jax.tree.map(lambda values: np.asarray(values)[:count], kept), state  # noqa: B023 (used at once)
        progress.advance(count * thinning, "sampling")
        done += count
        count = max(1, min(_BLOCK, 4 * count, int(count * _BLOCK_SECONDS / seconds)))


_CHAINS = 0x4E555453  # label of the seed: "NUTS"
_BLOCK = 1024  # traces of every chain that are computed between two looks at Ctrl-C, at the most
_BLOCK_SECONDS = 0.5
