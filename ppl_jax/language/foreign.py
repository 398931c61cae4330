"""All that the language knows of a guest, numpyro: its handlers, its models and its distributions beside ours.

What is done for it stands in :mod:`ppl_jax.interop`, a floor above, which is loaded when the guest is there.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import FrameType
from typing import Any

from ppl_jax.distributions.base import Distribution
from ppl_jax.language.addresses import call_site


def listens() -> bool:
    """Whether any of the guest's handlers are in force."""
    primitives = sys.modules.get("numpyro.primitives")
    return primitives is not None and bool(primitives._PYRO_STACK)


def adapt(model: Any) -> Any:
    """A model of the guest's as one of ours; any other as it is."""
    return _bridge().adapt(model) if "numpyro" in sys.modules else model


def settle(site: Any) -> None:
    """Passes a site that our handlers have seen to the guest's."""
    _bridge().settle_in_numpyro(site)


def forward(kind: str, distribution: Any, value: Any, name: str | None, address: str | None, caller: FrameType) -> Any:
    """What a statement without any handler of ours means under the guest's."""
    bridge = _bridge()
    return bridge.forward(kind, distribution, value, name or address or call_site(caller, bridge.entry(caller)))


def is_foreign(distribution: Any) -> bool:
    """Whether it is one of the guest's distributions, or another of its objects."""
    return type(distribution).__module__.startswith("numpyro.")


def as_distribution(distribution: Any) -> Distribution:
    """One of the guest's distributions as ours."""
    from ppl_jax.distributions.from_numpyro import from_numpyro

    return from_numpyro(distribution)


def _bridge() -> Any:
    return import_module("ppl_jax.interop.numpyro")
