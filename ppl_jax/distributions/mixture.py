"""Finite mixtures of scalar distributions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.special import logsumexp

from ppl_jax.distributions.base import Distribution, UniformSource, is_tracer, require
from ppl_jax.distributions.categorical import Categorical


class Mixture(Distribution):
    """One of ``components`` (scalar distributions, all discrete or none), chosen with probabilities ``probs``, (K,)."""

    __slots__ = ("_choice", "components", "discrete", "probs")  # type: ignore[misc]
    parameters = ("probs", "components")

    def __init__(self, probs: Any, components: Sequence[Distribution]):
        self._choice = Categorical(probs)
        self.probs = self._choice.probs
        self.components = tuple(components)
        count = self.probs.shape[-1]
        require(len(self.components) == count, "Mixture", "components", components, f"{count} in number, as probs")
        scalar = all(component.shape == () for component in self.components) and self._choice.shape == ()
        require(scalar, "Mixture", "components", components, "scalar distributions with a vector of probs")
        kinds = {component.discrete for component in self.components}
        require(len(kinds) == 1, "Mixture", "components", components, "all discrete or all continuous")
        self.discrete = kinds.pop()
        self.shape = ()

    def sample(self, rng: UniformSource) -> Any:
        return self.components[self._choice.sample(rng)].sample(rng)

    def log_prob(self, value: Any) -> Any:
        if is_tracer(value) or is_tracer(self.probs):
            return self.to_numpyro().log_prob(value)
        if any(is_tracer(getattr(c, name)) for c in self.components for name in c.parameters):
            return self.to_numpyro().log_prob(value)
        with np.errstate(divide="ignore"):
            terms = np.stack([np.asarray(component.log_prob(value)) for component in self.components])
            weights = np.log(self.probs).reshape(-1, *(1,) * (terms.ndim - 1))
            total = logsumexp(np.where(terms == -np.inf, -np.inf, terms + weights), axis=0)
        return float(total) if np.ndim(total) == 0 else total

    def inflated(self, factor: float) -> Mixture:
        return Mixture(self.probs, [component.inflated(factor) for component in self.components])

    def to_numpyro(self) -> Any:
        from numpyro import distributions as npd

        return npd.MixtureGeneral(npd.CategoricalProbs(self.probs), [c.to_numpyro() for c in self.components])

    def layout(self) -> tuple:
        return ("Mixture", tuple(self.probs.shape), tuple(component.layout() for component in self.components))

    def numbers(self) -> list[float]:
        return self.probs.tolist() + [number for component in self.components for number in component.numbers()]

    @property
    def mean(self) -> Any:
        return sum(p * c.mean for p, c in zip(self.probs.tolist(), self.components, strict=True))

    @property
    def variance(self) -> Any:
        pairs = list(zip(self.probs.tolist(), self.components, strict=True))
        return sum(p * (c.variance + c.mean**2) for p, c in pairs) - self.mean**2

    @property
    def support(self) -> tuple[Any, Any]:
        bounds = [component.support for component in self.components]
        return min(low for low, _ in bounds), max(high for _, high in bounds)
