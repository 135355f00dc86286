"""The graph of layers as inline SVG: what came from what."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import NamedTuple

LANES = ("annotation", "fusion", "prediction")
NODE = (132, 50)
STEP = (176, 86)
MARGIN = 12
HEADER = 22


class Node(NamedTuple):
    """One layer: its parents by id, and the layers that its model learned from."""

    id: str
    kind: str
    cases: int
    parents: tuple[str, ...]
    learned_from: tuple[str, ...] = ()


class Edge(NamedTuple):
    """From a source to what was made of it."""

    source: str
    target: str
    learned: bool


def layer_graph(nodes: Sequence[Node]) -> str:
    """Nodes in lanes by kind, left to right by depth; full lines are parents, dashed ones what a model saw.

    Sources that are not among the nodes are left out.
    """
    edges = _edges(nodes)
    places = _places(nodes, _depths(nodes, edges))
    width = max((x for x, _ in places.values()), default=0) + NODE[0] + MARGIN
    height = max((y for _, y in places.values()), default=0) + NODE[1] + MARGIN
    drawn = "".join(_draw_edge(edge, places) for edge in edges)
    boxes = "".join(_draw_node(node, places[node.id]) for node in nodes)
    return (
        f'<svg class="graph" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img" '
        f'aria-label="{escape(_described(nodes))}">{ARROWS}{drawn}{boxes}</svg>'
    )


ARROWS = (
    '<defs><marker id="arrow" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" '
    'orient="auto"><path d="M0 0.8 7 4 0 7.2z"/></marker></defs>'
)


def _edges(nodes: Sequence[Node]) -> list[Edge]:
    known = {n.id for n in nodes}
    parents = [Edge(p, n.id, False) for n in nodes for p in n.parents if p in known]
    told = {(e.source, e.target) for e in parents}
    learned = [
        Edge(s, n.id, True)
        for n in nodes
        for s in n.learned_from
        if s in known and s != n.id and (s, n.id) not in told
    ]
    return parents + learned


def _depths(nodes: Sequence[Node], edges: Sequence[Edge]) -> dict[str, int]:
    """Longest way from a source to each node; nodes are made of older ones, so this ends."""
    depths = {n.id: 0 for n in nodes}
    for _ in nodes:
        for e in edges:
            depths[e.target] = max(depths[e.target], depths[e.source] + 1)
        if all(depths[e.target] > depths[e.source] for e in edges):
            break
    return depths


def _places(nodes: Sequence[Node], depths: Mapping[str, int]) -> dict[str, tuple[int, int]]:
    """Upper left corners; a lane is as many rows high as it has nodes of one depth."""
    places, top = {}, MARGIN
    for lane in LANES:
        members = [n for n in nodes if n.kind == lane]
        columns: dict[int, int] = {}
        for node in members:
            row = columns.setdefault(depths[node.id], 0)
            columns[depths[node.id]] += 1
            places[node.id] = (MARGIN + depths[node.id] * STEP[0], top + row * STEP[1])
        top += STEP[1] * max(columns.values(), default=0)
    return places


def _draw_edge(edge: Edge, places: Mapping[str, tuple[int, int]]) -> str:
    (x1, y1), (x2, y2) = places[edge.source], places[edge.target]
    start, end = (x1 + NODE[0], y1 + NODE[1] / 2), (x2 - 2, y2 + NODE[1] / 2)
    if y1 == y2 and x2 - x1 > STEP[0]:  # passes under the nodes between
        bow = y1 + NODE[1] + 22
        path = f"M{start[0]} {start[1] + 8} C{start[0] + 30} {bow} {end[0] - 30} {bow} {end[0]} {end[1] + 8}"
    else:
        reach = (STEP[0] - NODE[0]) * 0.9
        bend = f"{start[0] + reach} {start[1]} {end[0] - reach} {end[1]}"
        path = f"M{start[0]} {start[1]} C{bend} {end[0]} {end[1]}"
    css = "edge learned" if edge.learned else "edge"
    title = f"{edge.target} {'learned from' if edge.learned else 'is made of'} {edge.source}"
    return f'<path class="{css}" d="{path}" marker-end="url(#arrow)"><title>{escape(title)}</title></path>'


def _draw_node(node: Node, place: tuple[int, int]) -> str:
    x, y = place
    what = f"{node.kind}, {node.cases} case{'' if node.cases == 1 else 's'}"
    return (
        f'<g class="node {escape(node.kind)}">'
        f'<rect x="{x}" y="{y}" width="{NODE[0]}" height="{NODE[1]}" rx="9"/>'
        f'<text x="{x + 12}" y="{y + 22}" class="name">{escape(node.id)}</text>'
        f'<text x="{x + 12}" y="{y + 39}" class="what">{escape(what)}</text></g>'
    )


def _described(nodes: Sequence[Node]) -> str:
    told = [f"{n.id} from {', '.join(n.parents)}" if n.parents else n.id for n in nodes]
    return "Layers: " + "; ".join(told)
