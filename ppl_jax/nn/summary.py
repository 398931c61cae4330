"""A network in a few lines, for people: what it is given, where it proposes, how large it is and what it learned."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from ppl_jax.shown import html_table

if TYPE_CHECKING:
    from ppl_jax.nn.network import Network

_MOST = 8  # observations, and call sites, that are listed


def one_line(network: Network) -> str:
    """What ``repr`` gives."""
    return (
        f"<Network of {network.num_parameters:,} parameters: {_count(len(network.sites.known), 'call site')}, "
        f"{_count(len(network.config.observed), 'observation')}, {_training(network)}>"
    )


def text(network: Network) -> str:
    """What ``print`` gives: a line for each of a few properties, and lists that are cut off."""
    lines = [f"Network of {network.num_parameters:,} parameters"]
    for label, values in _rows(network):
        lines.append(f"  {label + ':':<14}{values[0]}")
        lines += [f"  {'':<14}{value}" for value in values[1:]]
    return "\n".join(lines)


def as_html(network: Network) -> str:
    """The same as a table for notebooks."""
    rows = [(label, "\n".join(values)) for label, values in _rows(network)]
    return html_table(f"Network of {network.num_parameters:,} parameters", [], rows)


def _rows(network: Network) -> list[tuple[str, list[str]]]:
    config = network.config
    observed = [
        f"{name} {shape if shape else '(a number)'} by {embedding.kind}, dim {embedding.dim}"
        for name, shape, embedding in config.observed
    ]
    sites = [
        f"{address} of {family} ({_count(int(network.visits[row]), 'draw')}"
        f"{'' if network.visits[row] >= network.least_visits else ', too few: the prior proposes'})"
        for row, (address, family) in enumerate(network.sites.known, start=1)
    ]
    return [
        ("core", [f"{config.core}, {config.components} components a mixture, prior share {config.prior_share:g}"]),
        ("training", [_training(network)]),
        ("observations", _listed(observed)),
        ("call sites", _listed(sites)),
    ]


def _training(network: Network) -> str:
    if not network.history:
        return "not trained"
    losses = [loss for _, loss, _ in network.history if math.isfinite(loss)]
    held_out = [loss for _, _, loss in network.history if math.isfinite(loss)]
    found = [f"loss {losses[-1]:.4g}"] if losses else ["no finite loss"]
    found += [f"held out {held_out[-1]:.4g} nats"] if held_out else []
    return f"trained on {_count(network.num_traces, 'trace')}, {', '.join(found)}"


def _listed(entries: list[str]) -> list[str]:
    if len(entries) > _MOST:
        return [*entries[:_MOST], f"... and {len(entries) - _MOST:,} more"]
    return entries or ["none"]


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"
