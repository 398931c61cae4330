"""A Site: one statement of one execution, and the values that it may have."""

from __future__ import annotations

import reprlib
from typing import Any

import numpy as np

from ppl_jax.distributions.base import LARGEST, Distribution, is_tracer
from ppl_jax.distributions.numbers import as_numbers
from ppl_jax.errors import ObservationError

_NOT_NUMBERS = "Give a number or an array of numbers of the distribution's shape; leave out a name without a value."
SAMPLE, OBSERVE, FACTOR, TAG = "sample", "observe", "factor", "tag"


class Site:
    """One statement of one execution: the message while it travels, the record afterwards.

    Attributes:
      kind: "sample", "observe", "factor" or "tag".
      address: the call site (see :mod:`ppl_jax.language.addresses`).
      instance: 1 for the first visit of the address in this execution, 2 for the second, ...
      name: what the user calls it, or None. Observations are matched by name.
      distribution: the prior or likelihood; None for a tag.
      value: what was drawn, observed or tagged; None while not yet known.
      control: False marks a nuisance draw, for which no engine proposes.
      observed: True where the value is data: an observe, a factor, or a sample that was conditioned on.
      proposal: the distribution the value was drawn from, where it was not the prior; else None.
    """

    __slots__ = (
        "_log_prob",
        "address",
        "control",
        "distribution",
        "hidden",
        "instance",
        "kind",
        "name",
        "observed",
        "proposal",
        "rng",
        "value",
    )

    def __init__(
        self,
        kind: str,
        distribution: Any,
        value: Any,
        name: str | None,
        address: str,
        control: bool,
        observed: bool,
    ):
        self.kind = kind
        self.distribution = distribution
        self.value = value
        self.name = name
        self.address = address
        self.instance = 1
        self.control = control
        self.observed = observed
        self.proposal: Distribution | None = None
        self.rng: Any = None
        self.hidden = False
        self._log_prob: float | None = None

    @property
    def log_prob(self) -> float:
        """Log density of the value under the distribution, summed over elements; 0 for a tag."""
        known = self._log_prob
        if known is None:
            known = self._log_prob = 0.0 if self.kind is TAG else total_log_prob(self.distribution, self.value)
        return known

    @property
    def log_weight(self) -> float:
        """What the site adds to the importance weight: likelihood if observed, prior over proposal if proposed."""
        if self.observed:
            return self.log_prob
        if self.proposal is None or self.kind != SAMPLE:
            return 0.0
        return self.log_prob - total_log_prob(self.proposal, self.value)

    @property
    def is_latent(self) -> bool:
        return self.kind == SAMPLE and not self.observed

    def __repr__(self) -> str:
        return (
            f"Site({self.kind}, address={self.address!r}, instance={self.instance}, name={self.name!r}, "
            f"distribution={self.distribution!r}, value={self.value!r}, observed={self.observed})"
        )


def total_log_prob(distribution: Distribution, value: Any) -> Any:
    """``distribution.log_prob(value)`` summed over elements: a float on the host, a scalar tracer under JAX."""
    log_prob = distribution.log_prob(value)
    if type(log_prob) is float:
        return log_prob
    return log_prob.sum() if is_tracer(log_prob) else float(np.sum(log_prob))


def check_value(site: Site, value: Any) -> Any:
    """A given value as the site's distribution expects it: a scalar or numpy array of its shape, without NaN.

    Raises:
      ObservationError: wrong shape, not a number, or NaN. A value outside the support passes: its density is zero.
    """
    kind = type(value)
    shape = site.distribution.shape
    if shape == ():
        if kind is float or (kind is int and -LARGEST <= value <= LARGEST):
            if value == value:
                return value
        elif kind is bool:
            return int(value)
    if is_tracer(value):
        return value
    try:
        array = as_numbers(value)
    except (TypeError, OverflowError) as error:
        raise ObservationError(site, f"the value {reprlib.repr(value)} {error}.", _NOT_NUMBERS) from None
    if array.shape != shape:
        raise ObservationError(
            site,
            f"the value has shape {array.shape}, but {site.distribution!r} has shape {shape}.",
            "Give a value of the distribution's shape, or parameters of the data's shape.",
        )
    if np.isnan(array).any():
        which = "the value is NaN" if shape == () else f"{int(np.isnan(array).sum())} elements of the value are NaN"
        raise ObservationError(
            site,
            f"{which}.",
            "Leave missing data out of the model, give the value, or let the observe stand only where there is one; a "
            "simulator that fails for a part of its prior says so by ppl_jax.factor(-math.inf).",
        )
    if shape == ():
        number = array.item()
        return int(number) if site.distribution.discrete and number.is_integer() else number
    return array
