"""Values and tables as people read them."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

_LONGEST = 80  # characters of a text in a cell
_LEFT = "text-align:left;vertical-align:top"


def short(value: Any) -> str:
    """A value in a few characters, arrays cut off."""
    if isinstance(value, float):
        return f"{value:.6g}"
    return repr(value) if np.ndim(value) == 0 else np.array2string(np.asarray(value), threshold=6, precision=6)


def cut_off(text: str) -> str:
    """A text that fits a cell."""
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 4]} ..."


def element_name(name: str, index: tuple[int, ...]) -> str:
    """What an element of an array is called."""
    return f"{name}[{', '.join(map(str, index))}]"


def html_text(text: str) -> str:
    """A text whose lines and columns stay as they are."""
    return f"<pre>{html.escape(text)}</pre>"


def html_table(caption: str, heads: Sequence[str], rows: Iterable[Sequence[str]], notes: Iterable[str] = ()) -> str:
    """A table whose texts are escaped.

    Args:
      caption: above it.
      heads: of the columns; none for a table without.
      rows: a text for each column; its lines stay lines.
      notes: what is said below it.
    """
    head = f"<thead><tr>{''.join(f'<th>{html.escape(text)}</th>' for text in heads)}</tr></thead>" if heads else ""
    body = "".join(
        f"<tr><th style='{_LEFT}'>{_lines(first)}</th>{''.join(f'<td>{_lines(text)}</td>' for text in others)}</tr>"
        for first, *others in rows
    )
    below = "".join(f"<div>{_lines(note)}</div>" for note in notes)
    return f"<table><caption>{html.escape(caption)}</caption>{head}<tbody>{body}</tbody></table>{below}"


def _lines(text: str) -> str:
    return "<br>".join(html.escape(line) for line in text.split("\n"))
