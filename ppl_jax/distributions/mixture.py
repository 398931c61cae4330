"""Finite mixtures of scalar distributions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ppl_jax.distributions.base import Distribution, UniformSource, is_tracer, require
from ppl_jax.distributions.categorical import Categorical
from ppl_jax.errors import ParameterError


class Mixture(Distribution):
    """One of ``components`` (scalar distributions, all discrete or none), chosen with probabilities ``probs``, (K,)."""

    __slots__ = ("_choice", "components", "discrete")
    parameters = ("probs", "components")

    def __init__(self, probs: Any, components: Sequence[Distribution]):
        self._choice = Categorical(probs)
        self.components = tuple(components)
        scalar = self._choice.shape == () and all(c.shape == () for c in self.components)
        require(scalar, "Mixture", "components", components, "scalar distributions with a vector of probs")
        count = self._choice.support[1] + 1
        if len(self.components) != count:
            raise ParameterError("Mixture", "components", components, f"{count} in number, as probs")
        kinds = {component.discrete for component in self.components}
        require(len(kinds) == 1, "Mixture", "components", components, "all discrete or all continuous")
        self.discrete = kinds.pop()
        self.shape = ()

    @property
    def probs(self) -> Any:
        """The probabilities of the components, which sum to 1."""
        return self._choice.probs

    def sample(self, rng: UniformSource) -> Any:
        return self.components[self._choice.sample(rng)].sample(rng)

    def log_prob(self, value: Any) -> Any:
        terms = [component.log_prob(value) for component in self.components]
        if is_tracer(self.probs) or any(is_tracer(term) for term in terms):
            return self._traced_log_prob(value)
        weights = [self._choice.log_prob(k) for k in range(len(terms))]
        if all(type(term) is float for term in terms):
            return _log_sum(weights, terms)
        stacked = np.stack([term + weight for term, weight in zip(terms, weights, strict=True) if weight > -math.inf])
        return np.logaddexp.reduce(stacked, axis=0)

    def inflated(self, factor: float) -> Mixture:
        return Mixture(self.probs, [component.inflated(factor) for component in self.components])

    def to_numpyro(self) -> Any:
        from ppl_jax.distributions import choice_twins

        twins = [component.to_numpyro() for component in self.components]
        choice = choice_twins.CategoricalProbs(self.probs)
        return choice_twins.MixtureGeneral(choice, twins, support=self._joint_support(twins))

    def _joint_support(self, twins: list[Any]) -> Any:
        """The constraint to give numpyro, which masks components by their own supports; None where all are alike."""
        from numpyro.distributions import constraints

        bounds = [component.support for component in self.components]
        if any(is_tracer(bound) for pair in bounds for bound in pair):
            return constraints.nonnegative_integer if self.discrete else _moving_support(bounds)
        low, high = self.support
        if all(pair == (low, high) for pair in bounds) and len({type(twin.support) for twin in twins}) == 1:
            return None
        if self.discrete:
            return constraints.integer_interval(low, high) if high < math.inf else constraints.nonnegative_integer
        if low == -math.inf:
            return constraints.real if high == math.inf else constraints.less_than_eq(high)
        return constraints.greater_than_eq(low) if high == math.inf else constraints.interval(low, high)

    def layout(self) -> tuple:
        return ("Mixture", self._choice.layout()[1], tuple([component.layout() for component in self.components]))

    def numbers(self) -> list[float]:
        row = self._choice.numbers()
        for component in self.components:
            row.extend(component.numbers())
        return row

    @property
    def mean(self) -> Any:
        return sum(p * c.mean for p, c in self._possible())

    @property
    def variance(self) -> Any:
        mean = self.mean
        if not math.isfinite(mean):
            return abs(mean)  # infinite, or unknown
        return sum(p * (c.variance + (c.mean - mean) ** 2) for p, c in self._possible())

    def _possible(self) -> list[tuple[float, Distribution]]:
        """Probabilities and components without those of probability 0, whose moments may be infinite."""
        pairs = zip(self.probs.tolist(), self.components, strict=True)
        return [(p, component) for p, component in pairs if p > 0.0]

    @property
    def support(self) -> tuple[Any, Any]:
        bounds = [component.support for component in self.components]
        return min(low for low, _ in bounds), max(high for _, high in bounds)


def _moving_support(bounds: list[tuple[Any, Any]]) -> Any:
    """The constraint around intervals some of whose bounds depend on random values; infinite ones are known."""
    import jax.numpy as jnp
    from numpyro.distributions import constraints

    lows, highs = zip(*bounds, strict=True)
    below = any(not is_tracer(low) and low == -math.inf for low in lows)
    above = any(not is_tracer(high) and high == math.inf for high in highs)
    low, high = (jnp.stack([jnp.asarray(bound) for bound in part]) for part in (lows, highs))
    if below:
        return constraints.real if above else constraints.less_than_eq(high.max())
    return constraints.greater_than_eq(low.min()) if above else constraints.interval(low.min(), high.max())


def _log_sum(weights: list[float], terms: list[float]) -> float:
    """log sum exp(weight + term); a component of probability zero adds nothing, even where its density is infinite."""
    parts = [weight + term for weight, term in zip(weights, terms, strict=True) if weight > -math.inf]
    highest = max(parts)
    if math.isinf(highest):
        return highest
    return highest + math.log(math.fsum([math.exp(part - highest) for part in parts]))
