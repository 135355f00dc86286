"""The few pieces of HTML that every section is made of. Text is escaped here, and only here."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import NamedTuple

NONE = "\N{EN DASH}"
"""A cell that has no figure."""


class Section(NamedTuple):
    """One part of the page: `key` is its anchor, `body` HTML."""

    key: str
    title: str
    lead: str
    body: str


def section(part: Section) -> str:
    """A section with its heading and the sentence under it."""
    lead = f'<p class="lead">{escape(part.lead)}</p>' if part.lead else ""
    return (
        f'<section id="{escape(part.key)}" aria-labelledby="{escape(part.key)}-title">'
        f'<h2 id="{escape(part.key)}-title">{escape(part.title)}</h2>{lead}{part.body}</section>'
    )


def table(
    head: Iterable[Sequence[str]], body: Iterable[Sequence[str]], *, caption: str, kind: str = "figures"
) -> str:
    """A table that scrolls by itself on a narrow screen; cells are HTML made by `th`, `row_th` and `td`."""
    rows = "".join(f"<tr>{''.join(cells)}</tr>" for cells in body)
    heads = "".join(f"<tr>{''.join(cells)}</tr>" for cells in head)
    return (
        f'<div class="scroll" role="region" aria-label="{escape(caption)}" tabindex="0">'
        f'<table class="{escape(kind)}"><caption>{escape(caption)}</caption>'
        f"<thead>{heads}</thead><tbody>{rows}</tbody></table></div>"
    )


def wide_chart(svg: str, label: str) -> str:
    """A drawing that keeps its size on a narrow screen and scrolls there."""
    return (
        f'<figure class="chart wide" role="region" aria-label="{escape(label)}" tabindex="0">{svg}</figure>'
    )


def th(text: str, *, span: int = 1, css: str = "") -> str:
    """A column's heading."""
    scope = "colgroup" if span > 1 else "col"
    return f'<th scope="{scope}" colspan="{span}"{_class(css)}>{escape(text)}</th>'


def row_th(text: str, *, color: str = "") -> str:
    """A row's heading, with a swatch in `color` when there is one."""
    return f'<th scope="row">{swatch(color) if color else ""}{escape(text)}</th>'


def td(text: str, *, small: str = "", css: str = "") -> str:
    """A cell; `small` is the quieter part after the figure."""
    quiet = f" <small>{escape(small)}</small>" if small else ""
    return f"<td{_class(css)}>{escape(text)}{quiet}</td>"


def swatch(color: str) -> str:
    """A dot in a class's colour."""
    return f'<i class="swatch" style="background:{escape(color)}"></i>'


def _class(css: str) -> str:
    return f' class="{escape(css)}"' if css else ""
