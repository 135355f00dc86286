"""The graph of layers as inline SVG: what came from what."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import NamedTuple

LANES = ("annotation", "fusion", "prediction")
NODE_HEIGHT, LANE_STEP = 48, 84
GAP, MARGIN = 36, 12


class Node(NamedTuple):
    """One layer: its parents by id, and the layers that its model learned from."""

    id: str
    kind: str
    cases: int
    parents: tuple[str, ...]
    learned_from: tuple[str, ...] = ()


class Grid(NamedTuple):
    """Where the nodes are: their common width, and each one's upper left corner."""

    node_width: int
    places: dict[str, tuple[int, int]]


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
    grid = _grid(nodes, _depths(nodes, edges))
    width = max((x for x, _ in grid.places.values()), default=0) + grid.node_width + MARGIN
    height = max((y for _, y in grid.places.values()), default=0) + NODE_HEIGHT + 2 * MARGIN
    drawn = "".join(_draw_edge(edge, grid) for edge in edges)
    boxes = "".join(_draw_node(node, grid) for node in nodes)
    fit = f"max-width:calc({width}px + 2rem);min-width:min(64rem,{width}px)"
    return (
        f'<svg class="graph" viewBox="0 0 {width} {height}" role="img" style="{fit}" '
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


def _grid(nodes: Sequence[Node], depths: Mapping[str, int]) -> Grid:
    """Nodes as wide as the longest id needs; a lane has as many rows as it has nodes of one depth."""
    width = 24 + 8 * max((len(n.id) for n in nodes), default=0)
    places, top = {}, MARGIN
    for lane in LANES:
        members = [n for n in nodes if n.kind == lane]
        columns: dict[int, int] = {}
        for node in members:
            row = columns.setdefault(depths[node.id], 0)
            columns[depths[node.id]] += 1
            places[node.id] = (MARGIN + depths[node.id] * (width + GAP), top + row * LANE_STEP)
        top += LANE_STEP * max(columns.values(), default=0)
    return Grid(width, places)


def _draw_edge(edge: Edge, grid: Grid) -> str:
    (x1, y1), (x2, y2) = grid.places[edge.source], grid.places[edge.target]
    middle = NODE_HEIGHT / 2
    css = "edge learned" if edge.learned else "edge"
    title = f"{edge.target} {'learned from' if edge.learned else 'is made of'} {edge.source}"
    path = _path((x1 + grid.node_width, y1 + middle), (x2 - 2, y2 + middle))
    return f'<path class="{css}" d="{path}" marker-end="url(#arrow)"><title>{escape(title)}</title></path>'


def _path(start: tuple[float, float], end: tuple[float, float]) -> str:
    """Along the source's lane, then a bend before the target; under the nodes of its own lane."""
    (x1, y1), (x2, y2) = start, end
    if y1 == y2 and x2 - x1 > GAP:
        bow = y1 + NODE_HEIGHT * 0.85
        return f"M{x1} {y1 + 8} C{x1 + GAP} {bow} {x2 - GAP} {bow} {x2} {y2 + 8}"
    turn, reach = x2 - GAP + 2, GAP * 0.85
    return f"M{x1} {y1} H{turn} C{turn + reach} {y1} {x2 - reach} {y2} {x2} {y2}"


def _draw_node(node: Node, grid: Grid) -> str:
    x, y = grid.places[node.id]
    what = f"{node.cases} case{'' if node.cases == 1 else 's'}"
    return (
        f'<g class="node {escape(node.kind)}"><title>{escape(node.kind)}</title>'
        f'<rect x="{x}" y="{y}" width="{grid.node_width}" height="{NODE_HEIGHT}" rx="9"/>'
        f'<text x="{x + 12}" y="{y + 21}" class="name">{escape(node.id)}</text>'
        f'<text x="{x + 12}" y="{y + 38}" class="what">{escape(what)}</text></g>'
    )


def _described(nodes: Sequence[Node]) -> str:
    told = [f"{n.id} from {', '.join(n.parents)}" if n.parents else n.id for n in nodes]
    return "Layers: " + "; ".join(told)
