"""One HTML file that tells what a store holds; it opens anywhere, without a network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path

from pwsseg.report.changes import changed
from pwsseg.report.efficiency import efficiency
from pwsseg.report.facts import Facts, gather, published_at
from pwsseg.report.markup import Section, section
from pwsseg.report.quality import quality
from pwsseg.report.sections import lineage, overview, pictures, scores, training
from pwsseg.report.stability import stability
from pwsseg.report.style import STYLE
from pwsseg.report.volumes import volumes
from pwsseg.store import Store
from pwsseg.values import InputError

SECTIONS: tuple[Callable[[Facts, Store], Section | None], ...] = (
    overview,
    scores,
    pictures,
    changed,
    stability,
    training,
    volumes,
    quality,
    efficiency,
    lineage,
)
"""In the order of the page."""


def write_report(store: Store, path: Path) -> Path:
    """Write the report of `store` to `path` and return it; the file appears whole or not at all.

    The same store gives the same bytes. Raises InputError when `path` is a folder.
    """
    if path.is_dir():
        raise InputError(
            f"{path} is a folder; give the name of a file for the report, such as {path}/report.html"
        )
    facts = gather(store)
    parts = [part for make in SECTIONS if (part := make(facts, store))]
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.part")
    draft.write_text(page(facts, parts, name=Path(store.location).name), encoding="utf-8")
    draft.replace(path)
    return path


def page(facts: Facts, parts: Sequence[Section], *, name: str) -> str:
    """The whole document."""
    links = "".join(f'<li><a href="#{p.key}">{escape(p.title)}</a></li>' for p in parts)
    body = "".join(section(p) for p in parts) or "<section><p>Nothing is published here yet.</p></section>"
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(name)} · PWS-Seg report</title><style>{STYLE}</style></head><body>"
        f"<header><div><h1>PWS-Seg report</h1><p>{escape(_stands(facts, name))}</p></div></header>"
        f'<nav aria-label="Sections"><ul>{links}</ul></nav><main>{body}</main>'
        "<footer>Made from the store alone. For research, not for diagnosis.</footer>"
        "</body></html>\n"
    )


def _stands(facts: Facts, name: str) -> str:
    scans = " and ".join(f"{count} {split}" for split, count in facts.cases.items() if count) or "no"
    told = f"{name}: {scans} scans, {len(facts.layers)} published layers"
    if facts.layers:
        told += f", the last one of {published_at(facts.layers[-1]):%d %B %Y, %H:%M} UTC"
    return told + "."
