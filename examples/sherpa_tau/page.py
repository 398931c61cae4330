"""A self-contained HTML page: pictures are part of the file, nothing is fetched from anywhere."""

import base64
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import NamedTuple

_STYLE = """
body { font: 16px/1.5 Georgia, serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; color: #111; }
h1, h2 { font-family: Helvetica, Arial, sans-serif; line-height: 1.2; }
h2 { border-top: 1px solid #bbb; padding-top: 1rem; margin-top: 2.5rem; }
img { max-width: 100%; height: auto; }
figure { margin: 1rem 0; } figcaption { font-size: 0.9em; color: #333; }
table { border-collapse: collapse; margin: 1rem 0; } caption { text-align: left; font-weight: bold; }
th, td { padding: 0.2rem 0.8rem; border-bottom: 1px solid #ccc; text-align: right; }
th:first-child, td:first-child { text-align: left; }
"""


class Picture(NamedTuple):
    """A PNG file and what it shows."""

    path: Path
    caption: str


class Table(NamedTuple):
    """A caption, the heads of the columns, and rows of cells."""

    caption: str
    heads: Sequence[str]
    rows: Sequence[Sequence[str]]


class Section(NamedTuple):
    """A heading, paragraphs, and then tables and pictures."""

    heading: str
    paragraphs: Sequence[str]
    shown: Sequence[Table | Picture] = ()


def write_page(path: Path, title: str, introduction: Sequence[str], sections: Sequence[Section]) -> None:
    """Writes the page; all texts are plain text, not HTML."""
    parts = [
        "<!DOCTYPE html>",
        f'<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title><style>{_STYLE}</style></head>',
        f"<body><h1>{escape(title)}</h1>",
        *(f"<p>{escape(paragraph)}</p>" for paragraph in introduction),
    ]
    for section in sections:
        parts.append(f"<h2>{escape(section.heading)}</h2>")
        parts += [f"<p>{escape(paragraph)}</p>" for paragraph in section.paragraphs]
        parts += [_table(shown) if isinstance(shown, Table) else _picture(shown) for shown in section.shown]
    parts.append("</body></html>")
    path.write_text("\n".join(parts) + "\n", encoding="utf-8")


def _picture(picture: Picture) -> str:
    data = base64.b64encode(picture.path.read_bytes()).decode("ascii")
    caption = escape(picture.caption)
    return (
        f'<figure><img alt="{escape(picture.caption, quote=True)}" src="data:image/png;base64,{data}">'
        f"<figcaption>{caption}</figcaption></figure>"
    )


def _table(table: Table) -> str:
    heads = "".join(f"<th>{escape(head)}</th>" for head in table.heads)
    rows = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in table.rows)
    return f"<table><caption>{escape(table.caption)}</caption><tr>{heads}</tr>{rows}</table>"
