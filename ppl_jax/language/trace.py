"""Traces: the record of one execution of a model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from ppl_jax.language.site import FACTOR, TAG, Site
from ppl_jax.shown import cut_off, html_table, short

_SITES_SHOWN = 20


class TraceType(NamedTuple):
    """The sequence of controlled latent draws: what a proposal network distinguishes executions by.

    ``draws``: one (address, distribution family) per controlled latent, in execution order.
    """

    draws: tuple[tuple[str, str], ...]


class Scope(NamedTuple):
    """A rejection loop in an execution: its sites are ``first`` ... ``last`` - 1; ``rejected`` passes are left out."""

    key: tuple[str, str]
    first: int
    last: int
    rejected: int


class Trace:
    """One execution: its sites in the order in which they were met, and what the model returned.

    ``trace["mu"]`` is the value of the site (or tag) of that name, the last one if the name was met several times;
    ``trace["mu", 2]`` is the value at its second occurrence. ``"mu" in trace`` tells whether the name was met.

    Attributes:
      sites: tuple of Site.
      result: the model's return value.
      log_importance_weight: natural logarithm of the unnormalised weight under the engine that made the trace.
      scopes: the rejection loops, in the order in which they began; known as long as the trace was not stored.
    """

    __slots__ = ("_log_importance_weight", "result", "scopes", "sites")

    def __init__(
        self,
        sites: Sequence[Site],
        result: Any = None,
        log_importance_weight: float | None = None,
        scopes: Sequence[Scope] = (),
    ):
        self.scopes = scopes
        self.sites: Sequence[Site] = sites
        self.result = result
        self._log_importance_weight = log_importance_weight

    @property
    def log_importance_weight(self) -> float:
        if self._log_importance_weight is None:
            return float(sum(site.log_weight for site in self.sites))
        return self._log_importance_weight

    @property
    def log_prob(self) -> float:
        """Log prior density of the latent values."""
        return float(sum(site.log_prob for site in self.sites if site.is_latent))

    @property
    def log_likelihood(self) -> float:
        """Log density of the observed values and factors given the latents."""
        return float(sum(site.log_prob for site in self.sites if site.observed))

    @property
    def log_joint(self) -> float:
        """Log density of latent and observed values together, factors included."""
        return float(sum(site.log_prob for site in self.sites))

    @property
    def latents(self) -> list[Site]:
        return [site for site in self.sites if site.is_latent]

    @property
    def controlled(self) -> list[Site]:
        """The latent sites for which engines may propose."""
        return [site for site in self.sites if site.is_latent and site.control]

    @property
    def observed(self) -> list[Site]:
        return [site for site in self.sites if site.observed]

    @property
    def tags(self) -> dict[str, Any]:
        """Tagged values by name (by address where unnamed); the last one of a name wins."""
        return {site.name or site.address: site.value for site in self.sites if site.kind == TAG}

    @property
    def type(self) -> TraceType:
        return TraceType(tuple((site.address, site.distribution.family) for site in self.controlled))

    @property
    def names(self) -> list[str]:
        """The names met, in order of first occurrence."""
        return list(dict.fromkeys(site.name for site in self.sites if site.name))

    def _named(self, key: str | tuple[str, int]) -> Site | None:
        name, occurrence = name_and_occurrence(key)
        if occurrence is None:
            return next((site for site in reversed(self.sites) if site.name == name), None)
        matches = [site for site in self.sites if site.name == name]
        return matches[occurrence - 1] if 1 <= occurrence <= len(matches) else None

    def __getitem__(self, key: str | tuple[str, int]) -> Any:
        site = self._named(key)
        if site is None:
            raise KeyError(f"This trace has no site {key!r}. Choose among its names: {self.names}")
        return site.value

    def __contains__(self, key: object) -> bool:
        return is_key(key) and self._named(key) is not None  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[Site]:
        return iter(self.sites)

    def __len__(self) -> int:
        return len(self.sites)

    def __repr__(self) -> str:
        named = ", ".join(f"{name}={self[name]!r}" for name in self.names[:6])
        return f"Trace({len(self.sites)} sites; {named})"

    def _repr_html_(self) -> str:
        """A table of the sites for notebooks, cut off where it would be long."""
        shown = self.sites[:_SITES_SHOWN]
        heads = ["site", "kind", "distribution", "value", "log density"]
        rest = len(self.sites) - len(shown)
        notes = [f"and {rest} more: trace.sites"] if rest else []
        return html_table(f"Trace of {len(self.sites)} sites", heads, [_row(site) for site in shown], notes)


def _row(site: Site) -> list[str]:
    """A site as it is shown to people."""
    number = f" ({site.instance})" if site.instance > 1 else ""
    return [
        f"{site.name or site.address}{number}",
        "observed" if site.observed and site.kind != FACTOR else site.kind,
        "" if site.distribution is None else cut_off(repr(site.distribution)),
        "" if site.kind == FACTOR else cut_off(short(site.value)),
        "" if site.kind == TAG else short(float(site.log_prob)),
    ]


def is_key(key: object) -> bool:
    """Whether it is a name, or a name and an occurrence."""
    return isinstance(key, str) or (
        isinstance(key, tuple) and len(key) == 2 and isinstance(key[0], str) and isinstance(key[1], (int, np.integer))
    )


def name_and_occurrence(key: Any) -> tuple[str, int | None]:
    """What a key of a site means; without an occurrence, None, the last one is meant.

    Raises:
      TypeError: it is no key.
    """
    if isinstance(key, str):
        return key, None
    if not is_key(key):
        raise TypeError(
            "A value must be read by the name of its site, trace['x'], or by name and occurrence, trace['x', 2]; got "
            f"{key!r}. The sites by number are trace.sites."
        )
    return key[0], int(key[1])
