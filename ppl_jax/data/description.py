"""What a dataset holds, in words: the same in Python and on the command line."""

from __future__ import annotations

from typing import Any

from ppl_jax.shown import html_text

_TYPES_SHOWN = 10
_ADDRESSES_SHOWN = 20


def described(info: Any, whole: bool) -> str:
    """A ``DatasetInfo`` in lines; ``whole`` shows all trace types and addresses."""
    observations = [f"{name} {_shape(shape)}" for name, shape in info.observations.items()]
    lines = [
        str(info.path),
        f"  traces         {info.traces}",
        f"  latents        {info.latents} controlled",
        f"  size           {info.bytes} bytes"
        + (f", {info.bytes / info.latents:.1f} a controlled latent" if info.latents else ""),
        f"  shards         {info.shards}, of {info.blocks} blocks",
        f"  observations   {', '.join(observations) or 'none'}",
        f"  names          {', '.join(info.names) or 'none'}",
        f"  trace types    {len(info.types)}, of {info.layouts} row layouts",
    ]
    shown = info.types if whole else info.types[:_TYPES_SHOWN]
    lines += [f"    type {found.number}: {found.traces} traces, {found.latents} controlled latents" for found in shown]
    lines += _rest(len(info.types) - len(shown))
    lines.append(f"  addresses      {len(info.addresses)}")
    addresses = info.addresses if whole else info.addresses[:_ADDRESSES_SHOWN]
    lines += [f"    {address}" for address in addresses]
    lines += _rest(len(info.addresses) - len(addresses))
    lines += [f"  problem        {problem}" for problem in info.problems]
    return "\n".join(lines)


def _shape(shape: tuple[int, ...] | None) -> str:
    return "of various shapes" if shape is None else "scalar" if shape == () else " x ".join(map(str, shape))


def _rest(count: int) -> list[str]:
    return [f"    and {count} more (--all shows them)"] if count > 0 else []


def as_html(info: Any) -> str:
    """The same for notebooks."""
    return html_text(described(info, whole=False))
