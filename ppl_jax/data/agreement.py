"""Whether traces can be of one model: what two sets of traces have in common, and where they contradict each other."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from ppl_jax.data.types import OBSERVATION, role
from ppl_jax.errors import StorageError
from ppl_jax.language.site import FACTOR, TAG
from ppl_jax.storage.layouts import SiteLayout

Shape = tuple[int, ...]


class Outline(NamedTuple):
    """Traces in outline: what messages call them, their observations and the addresses of their draws."""

    label: str
    observations: Mapping[str, Shape | None]
    addresses: tuple[str, ...]


def observations_of(sites: Iterable[SiteLayout]) -> dict[str, Shape | None]:
    """Name of each observed site -> its shape; None where that varies."""
    found: dict[str, Shape | None] = {}
    for site in sites:
        named = role(site) == OBSERVATION and site.name is not None
        if named and found.setdefault(site.name, site.value) != site.value:  # type: ignore[arg-type]
            found[site.name] = None  # type: ignore[index]
    return found


def addresses_of(sites: Iterable[SiteLayout]) -> tuple[str, ...]:
    """Addresses of all sites that are drawn or observed, in order of first appearance."""
    return tuple(dict.fromkeys(site.address for site in sites if site.kind not in (TAG, FACTOR)))


def check_agreement(first: Outline, second: Outline) -> None:
    """Raises StorageError if two sets of traces cannot be of one model."""
    for name, shape in first.observations.items():
        other = second.observations.get(name, shape)
        if None not in (shape, other) and shape != other:
            raise StorageError(
                f"{first.label} and {second.label} are of different models: the observation '{name}' has shape {shape} "
                f"in the one and {other} in the other. Give datasets of one model, or train a network on each."
            )
    if first.addresses and second.addresses and not set(first.addresses) & set(second.addresses):
        raise StorageError(
            f"{first.label} and {second.label} are of different models: they have no address in common (for example "
            f"{first.addresses[0]!r} and {second.addresses[0]!r}). Give datasets of one model, or train a network on "
            "each."
        )


def check_shapes(outline: Outline, shapes: Mapping[str, Shape]) -> None:
    """Raises StorageError unless every observation that is asked for is there and has the given shape."""
    for name, shape in shapes.items():
        if name not in outline.observations:
            known = ", ".join(map(repr, outline.observations)) or "none"
            raise StorageError(f"{outline.label} has no observation {name!r}. Choose among its observations: {known}.")
        found = outline.observations[name]
        if found is None or tuple(found) != tuple(shape):
            has = "shapes that vary" if found is None else f"shape {found}"
            raise StorageError(
                f"{outline.label}: the observation '{name}' has {has}, but {tuple(shape)} was expected. The dataset "
                "was made with another model, or another version of it."
            )
