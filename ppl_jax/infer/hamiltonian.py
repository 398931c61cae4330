"""A model as numpyro's samplers see it, and chains of NUTS on it; :mod:`ppl_jax.infer.nuts` imports it when it runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
import numpyro
from numpyro.infer import MCMC, NUTS

from ppl_jax.distributions.delta import Delta
from ppl_jax.errors import DegenerateWeightsError
from ppl_jax.infer.jax_backend import IMPLEMENTATION, words
from ppl_jax.infer.symbolic import SymbolicExecution, run_symbolically
from ppl_jax.numpyro_bridge import NUMPYRO_LOCK
from ppl_jax.primitives import Site
from ppl_jax.streams import derive_seed


class TargetExecution(SymbolicExecution):
    """Raises the model's k-th latent as numpyro's site "k", and sums everything else into the weight."""

    __slots__ = ()

    def settle_latent(self, site: Site) -> None:
        """Lets numpyro choose the value."""
        site.proposal = None
        if isinstance(site.distribution, Delta):
            site.value = site.distribution.value
            return
        twin = site.distribution.to_numpyro()
        site.value = numpyro.sample(str(len(self.drawn)), twin.to_event(len(twin.batch_shape)))
        self.drawn.append(len(self.sites) - 1)

    def settle_fixed(self, site: Site) -> None:
        """A latent fixed by a handler is part of the target, whatever its distribution hangs on."""
        self.log_weight += site.log_prob


def target(model: Callable[[], Any], observations: Mapping[str, Any], ambient: tuple) -> Callable[[], None]:
    """The numpyro model whose joint density is that of ``model`` with the observations."""

    def numpyro_model() -> None:
        execution = TargetExecution(None, observations, True, 1.0)
        run_symbolically(execution, model, ambient)
        numpyro.factor("rest", execution.log_weight)

    return numpyro_model


def sample_chains(
    numpyro_model: Callable[[], None],
    lengths: Sequence[int],
    *,
    burn_in: int,
    thinning: int,
    seed: int,
    progress: bool,
    **settings: Any,
) -> tuple[list[np.ndarray], int]:
    """Chains of NUTS, all of ``lengths`` (that of the first chain is the greatest).

    Returns:
      The values of each latent, (sum of lengths, *shape), chain after chain; and how many steps diverged.

    Raises:
      DegenerateWeightsError: no starting point of non-zero density was found.
    """
    sampler = MCMC(
        NUTS(numpyro_model, **settings),
        num_warmup=burn_in,
        num_samples=lengths[0] * thinning,
        num_chains=len(lengths),
        thinning=thinning,
        chain_method="vectorized" if len(lengths) > 1 else "sequential",
        progress_bar=progress,
    )
    key = jax.random.wrap_key_data(words(derive_seed(seed, _CHAINS)), impl=IMPLEMENTATION)
    with NUMPYRO_LOCK:
        try:
            sampler.run(key)
        except RuntimeError as error:
            if "initial parameters" not in str(error):
                raise
            raise DegenerateWeightsError(
                "NUTS found no starting point where the density and its gradient are finite. Check the observed "
                "values and the supports of their distributions; where the density is zero almost everywhere, use "
                "another engine."
            ) from error
    samples = sampler.get_samples(group_by_chain=True)
    values = [
        np.concatenate([chain[:length] for chain, length in zip(np.asarray(samples[str(k)]), lengths, strict=True)])
        for k in range(len(samples))
    ]
    return values, int(np.sum(sampler.get_extra_fields()["diverging"]))


_CHAINS = 0x4E555453  # label of the seed: "NUTS"
