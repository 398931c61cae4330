"""The primitives a model calls, and the message (a Site) each sends up the stack of handlers.

A model is any callable. ``sample``, ``observe``, ``factor`` and ``tag`` build a :class:`ppl_jax.language.site.Site` and
pass it to the handlers in force, innermost first; whoever knows the value fills it in. Outside any handler a model runs
as plain Python: ``sample`` draws from the operating system's randomness, ``observe`` returns its value or draws one,
``factor`` and ``tag`` do nothing. Under numpyro's handlers the primitives pass themselves on to numpyro.
"""

from __future__ import annotations

import sys
from types import FrameType
from typing import Any

from ppl_jax.distributions.base import Distribution
from ppl_jax.distributions.factor import Factor
from ppl_jax.errors import ParameterError
from ppl_jax.language import foreign
from ppl_jax.language.addresses import call_site
from ppl_jax.language.site import FACTOR, OBSERVE, SAMPLE, TAG, Site, check_value
from ppl_jax.language.stack import STACK, send
from ppl_jax.streams import Stream, check_seed


def sample(
    distribution: Distribution | Any, name: str | None = None, *, address: str | None = None, control: bool = True
) -> Any:
    """Draws a random value: a latent variable of the program.

    Args:
      distribution: from :mod:`ppl_jax.distributions`; one of numpyro's becomes ours.
      name: how the user refers to it; needed to condition on it or to read it from a trace. Need not be unique.
      address: an explicit call-site id in place of the automatic one.
      control: False for a nuisance draw, recorded but never proposed for.

    Returns:
      The value: float, int or numpy array of ``distribution.shape`` (a JAX tracer when the model is being traced).

    Raises:
      TypeError: ``distribution`` is not a distribution.
    """
    frame = STACK.get()
    if not isinstance(distribution, Distribution):
        distribution = _as_distribution(SAMPLE, distribution)
    if frame is None:
        return _unhandled(SAMPLE, distribution, None, name, address, sys._getframe(1))
    if address is None:
        address = call_site(sys._getframe(1), frame.entry)
    site = Site(SAMPLE, distribution, None, name, address, control, False)
    send(site, frame)
    return site.value


def observe(
    distribution: Distribution | Any, value: Any = None, name: str | None = None, *, address: str | None = None
) -> Any:
    """Conditions the program on a value having this distribution.

    Args:
      distribution: the likelihood.
      value: the observed value, of ``distribution.shape``; None if the engine supplies it under ``name``. Data given
        to the engine under ``name`` win over a value given here.
      name: the key under which observations are given.
      address: an explicit call-site id in place of the automatic one.

    Returns:
      The value used: the data, or in a prior run without data a draw from the distribution.

    Raises:
      TypeError: ``distribution`` is not a distribution.
      ObservationError: the value is missing where an engine weighs it, NaN, or of another shape.
    """
    frame = STACK.get()
    if not isinstance(distribution, Distribution):
        distribution = _as_distribution(OBSERVE, distribution)
    if frame is None:
        return _unhandled(OBSERVE, distribution, value, name, address, sys._getframe(1))
    if address is None:
        address = call_site(sys._getframe(1), frame.entry)
    site = Site(OBSERVE, distribution, value, name, address, False, True)
    if value is not None:
        site.value = check_value(site, value)
    send(site, frame)
    return site.value


def factor(log_factor: Any, name: str | None = None, *, address: str | None = None) -> None:
    """Adds to the log joint density of the execution.

    Args:
      log_factor: a scalar, natural logarithm; -inf rules the execution out.
      name: what errors and traces call it.
      address: an explicit call-site id in place of the automatic one.

    Raises:
      ParameterError: ``log_factor`` is NaN, +inf or no scalar.
    """
    frame = STACK.get()
    try:
        distribution = Factor(log_factor)
    except ParameterError as error:
        if name is not None:
            error.locate(f"factor site '{name}'")
        raise
    if frame is None:
        _unhandled(FACTOR, distribution, None, name, address, sys._getframe(1))
        return
    if address is None:
        address = call_site(sys._getframe(1), frame.entry)
    send(Site(FACTOR, distribution, None, name, address, False, True), frame)


def tag(value: Any, name: str | None = None, *, address: str | None = None) -> Any:
    """Records a value in the trace without any effect on its probability.

    Args:
      value: anything; what is to be stored on disk must be numbers, arrays, strings, and tuples, lists, dicts of these.
      name: how it is read, ``trace[name]``.
      address: an explicit call-site id in place of the automatic one.

    Returns:
      ``value``.
    """
    frame = STACK.get()
    if frame is None:
        return _unhandled(TAG, None, value, name, address, sys._getframe(1))
    if address is None:
        address = call_site(sys._getframe(1), frame.entry)
    send(Site(TAG, None, value, name, address, False, False), frame)
    return value


def _as_distribution(kind: str, given: Any) -> Distribution:
    """One of numpyro's distributions as ours."""
    if foreign.is_foreign(given):
        return foreign.as_distribution(given)
    remedy = f": {kind}(distribution, name={given!r})" if isinstance(given, str) else f", got {given!r}"
    raise TypeError(f"{kind}: the first argument must be a distribution of ppl_jax.distributions{remedy}.")


def _unhandled(
    kind: str, distribution: Any, value: Any, name: str | None, address: str | None, caller: FrameType
) -> Any:
    """What a primitive means with no handler of ours: numpyro's, if its handlers are in force, else plain Python."""
    if foreign.listens():
        return foreign.forward(kind, distribution, value, name, address, caller)
    if kind in (SAMPLE, OBSERVE) and value is None:
        return distribution.sample(Stream(check_seed(None)))
    return value
