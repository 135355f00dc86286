"""The graph of layers and models in a terminal: ● published, ○ draft, x retired."""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pwsseg.cli.text import day, ranges, size, table

if TYPE_CHECKING:
    from pwsseg.store import LayerRecord, ModelRecord, RetirementRecord
    from pwsseg.store.graph import Key, Node

    Retired = dict[Key, RetirementRecord]

ASCII = str.maketrans({"●": "*", "○": "o", "├": "|", "─": "-", "│": "|"})
"""For terminals without these characters."""


def drawn(nodes: Sequence[Node], retired: Retired) -> str:
    """A chain goes straight down; what else was made from a version branches off to the right of it.

    Each version hangs on the newest of its sources; the others are named at the end of its line.
    """
    trunk = _trunk(nodes)
    lines: list[tuple[str, Node]] = []
    for root in trunk[None]:
        _draw(root, trunk, retired, lines, lane="", mark="")
    above = {node.key: parent for parent, children in trunk.items() for node in children}
    rows = [[drawn, *_figures(node, retired)] for drawn, node in lines]
    also = [_also(node, above[node.key]) for _, node in lines]
    columns = ["layer or model", "cases", "classes", "size", "state", "date"]
    head, *body = table(columns, rows).splitlines()
    width = max(len(line) for line in [head, *body])
    text = "".join(
        _wrapped(line, width, more) for line, more in zip([head, *body], ["also from", *also], strict=True)
    )
    return text if _shows(text) else text.translate(ASCII)


def _trunk(nodes: Sequence[Node]) -> dict[Key | None, list[Node]]:
    """Key -> what hangs on it; None -> the roots."""
    place = {node.key: i for i, node in enumerate(nodes)}
    found: dict[Key | None, list[Node]] = {None: [], **{node.key: [] for node in nodes}}
    for node in nodes:
        there = [s for s in node.sources if place.get(s, len(nodes)) < place[node.key]]
        found[max(there, key=lambda s: place[s], default=None)].append(node)
    return found


def _draw(
    node: Node,
    trunk: dict[Key | None, list[Node]],
    retired: Retired,
    lines: list[tuple[str, Node]],
    *,
    lane: str,
    mark: str,
) -> None:
    """Append the lines of a chain and of all that branches off it."""
    while True:
        lines.append((f"{lane}{mark}{_glyph(node, retired)} {_name(node)}", node))
        mark = ""
        children = sorted(trunk[node.key], key=lambda n: _depth(n, trunk))
        for child in children[:-1]:
            first = len(lines)
            _draw(child, trunk, retired, lines, lane=f"{lane}│ ", mark="")
            drawn, own = lines[first]
            lines[first] = (f"{lane}├─{drawn[len(lane) + 2 :]}", own)
        if not children:
            return
        node = children[-1]


def _depth(node: Node, trunk: dict[Key | None, list[Node]]) -> tuple[int, str]:
    """How much was made from it in turn: the longest chain goes straight on, of equals the newest."""
    below = max((_depth(child, trunk)[0] for child in trunk[node.key]), default=0)
    return below + 1, node.created or ""


def _glyph(node: Node, retired: Retired) -> str:
    return "x" if node.key in retired else "○" if node.created is None else "●"


def _name(node: Node) -> str:
    return node.key.id if node.key.room == "layers" else f"model {node.key.id}"


def _figures(node: Node, retired: Retired) -> list[str]:
    state = state_of(node.record, retired.get(node.key))
    done = None if node.record.state.state == "draft" else node.record.state
    return [
        cases_of(node.record),
        ranges(classes_of(node.record)),
        size(done.bytes) if done else "-",
        state,
        day(node.created),
    ]


def _also(node: Node, above: Key | None) -> str:
    others = [s for s in node.sources if s != above]
    return ", ".join(s.id if s.room == "layers" else f"model {s.id}" for s in others)


def _wrapped(line: str, width: int, more: str) -> str:
    """A line and its last column, which goes on below itself where the terminal ends."""
    if not more:
        return f"{line}\n"
    room = max(20, shutil.get_terminal_size((100, 24)).columns - width - 2)
    first, *rest = textwrap.wrap(more, room, break_on_hyphens=False)
    return f"{line.ljust(width)}  {first}\n" + "".join(f"{'':{width}}  {part}\n" for part in rest)


def _shows(text: str) -> bool:
    """Whether the terminal's encoding has these characters."""
    try:
        text.encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        return False
    return True


def state_of(record: LayerRecord | ModelRecord, retired: RetirementRecord | None) -> str:
    """Draft, published, retired or deleted."""
    if retired is None:
        return record.state.state
    return "deleted" if retired.deleted else "retired"


def classes_of(record: LayerRecord | ModelRecord) -> list[int]:
    """The classes that a layer speaks about or a model gives."""
    if record.type == "layer":
        return list(record.pins.classes)
    return [] if record.state.state == "draft" else [c for c in record.state.classes if c]


def cases_of(record: LayerRecord | ModelRecord) -> str:
    """How many cases a layer has or a model learned from."""
    if record.type == "model":
        return str(len(record.pins.cases))
    return "-" if record.state.state == "draft" else str(record.state.cases)
