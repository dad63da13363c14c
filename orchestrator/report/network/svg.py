"""Draws a network as one SVG file: no scripts, no external references, text stays text."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from xml.etree import ElementTree

from orchestrator.domain.flops import ComputeWork
from orchestrator.domain.network_graph import UNKNOWN, GraphNode, GraphTensor, NetworkGraph
from orchestrator.report.network import graph_layout
from orchestrator.report.network.graph_layout import Link, Point
from orchestrator.report.network.operator_families import COLOURS, attributes, family

MAX_OPERATORS = 1500
"""Boxes in a drawing; a browser can still show as many at once."""
MAX_EDGES = 6000
MAX_NAMED_TENSORS, MAX_LETTERS = 20, 2000
"""Tensors that a tooltip names, and letters of any text: names come from users' files."""
MAX_LAYERS_CROSSED = 60
"""Layers that an edge may cross; a longer edge is named in the box that it leads to."""
WIDTH, LINE, PAD = 240.0, 15.0, 8.0
"""Pixels: a box's width, the height of a line of text in it, and the space around the text."""
LETTER = 6.0
"""Pixels of a box's width per letter of its small text."""
MARGIN, MIN_WIDTH = 28.0, 760.0
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
STYLE = """
text { font-family: system-ui, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif;
  font-size: 11px; fill: #333 }
.operator { font-size: 13px; font-weight: 600; fill: #111 }
.heading { font-size: 20px; font-weight: 600; fill: #111 }
.facts { font-size: 13px }
.shape { font-family: ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace;
  font-size: 10.5px; fill: #111 }
.label { paint-order: stroke; stroke: #fff; stroke-width: 4px }
.edge { fill: none; stroke: #8a8a8a; stroke-width: 1.2 }
"""


_DECLARATION = '<?xml version="1.0" encoding="UTF-8"?>\n'
_SVG = "{http://www.w3.org/2000/svg}"
_ARROW_HEAD = "url(#head)"
_ELEMENTS = frozenset(
    _SVG + name for name in ("svg", "title", "style", "defs", "marker", "path", "rect", "g", "text")
)
_ATTRIBUTES = frozenset(
    [
        "width", "height", "viewBox", "id", "refX", "refY", "orient", "markerWidth", "markerHeight",
        "d", "fill", "fill-opacity", "stroke", "stroke-width", "class", "marker-end", "x", "y",
        "rx",
    ]
)  # fmt: skip


@dataclass(frozen=True)
class _Box:
    """``lines``: (CSS class, text), shortened to fit; ``tooltip``: the same in full, with every
    attribute and operand."""

    family: str
    lines: tuple[tuple[str, str], ...]
    tooltip: str

    @property
    def size(self) -> tuple[float, float]:
        return WIDTH, LINE * len(self.lines) + 2 * PAD


def is_drawing(text: str) -> bool:
    """Whether ``text`` has only elements, attributes and the style that ``draw`` uses, and nothing
    that a browser would run or fetch. The text comes from the confined child."""
    body = text.removeprefix(_DECLARATION)
    if body == text or "<!" in body or "<?" in body:
        return False
    try:
        root = ElementTree.fromstring(body)
    except ElementTree.ParseError:
        return False
    return all(
        element.tag in _ELEMENTS
        and set(element.attrib) <= _ATTRIBUTES
        and not any("(" in value and value != _ARROW_HEAD for value in element.attrib.values())
        and (element.tag != _SVG + "style" or element.text == STYLE)
        for element in root.iter()
    )


def draw(name: str, graph: NetworkGraph, work: ComputeWork) -> str:
    """The drawing of ``graph`` as the text of an SVG file with ``name`` as its heading."""
    drawing = _Drawing(graph, work)
    sizes = [box.size for box in drawing.boxes]
    rank = graph_layout.ranks(len(sizes), drawing.links)
    placed = graph_layout.place(sizes, drawing.links, rank, MAX_LAYERS_CROSSED)
    head = [(20.0, "heading", name), *((18.0, "facts", text) for text in drawing.facts())]
    used = Counter(box.family for box in drawing.boxes)
    families = [(key, used[key]) for key in COLOURS if used[key]]
    width = max(placed.width, MIN_WIDTH) + 2 * MARGIN
    keys = list(_legend(families, width))
    top = MARGIN + sum(step for step, _, _ in head) + 24 * (1 + keys[-1][1] if keys else 0) + 30
    root = _root(name, width, top + placed.height + MARGIN)
    y = MARGIN
    for step, kind, text in head:
        _text(root, MARGIN, y + 10, kind, text)
        y += step
    for x, row, key, label in keys:
        _swatch(root, x, y + 6 + 24 * row, key)
        _text(root, x + 22, y + 18 + 24 * row, "facts", label)
    left = (width - placed.width) / 2
    edges = ElementTree.SubElement(root, "g", {"class": "edge"})
    for link, route in zip(drawing.links, placed.routes, strict=True):
        if route:
            _edge(edges, route, left, top)
            _edge_label(root, drawing.edge_label(link), route, left, top)
    for box, (x, y) in zip(drawing.boxes, placed.places, strict=True):
        _draw_box(root, box, left + x, top + y)
    ElementTree.indent(root, " ")
    text = ElementTree.tostring(root, encoding="unicode")
    return f"{_DECLARATION}{text}\n"


class _Drawing:
    """The boxes and links of a graph, and counts of what the bounds left out."""

    def __init__(self, graph: NetworkGraph, work: ComputeWork) -> None:
        self.graph, self.work = graph, work
        drawn = [
            (place, node)
            for place, node in enumerate(graph.nodes)
            if any(node.inputs) or node.operator != "Constant"
        ]
        self.constants = len(graph.nodes) - len(drawn)
        self.omitted = max(0, len(drawn) - MAX_OPERATORS)
        self.omitted_edges = 0
        self.boxes: list[_Box] = []
        self.links: list[Link] = []
        self._producer: dict[str, int] = {}
        self._output_count: Counter[int] = Counter()
        for key in graph.inputs:
            self._producer[key] = len(self.boxes)
            self.boxes.append(self._end("input", key))
        for place, node in drawn[:MAX_OPERATORS]:
            self._add(place, node)
        if self.omitted:
            text = f"{self.omitted:,} more operators are not drawn"
            self.links.append(Link(len(self.boxes) - 1, len(self.boxes), ""))
            self.boxes.append(_Box("other", (("operator", "…"), ("", text)), text))
        for key in graph.outputs:
            if key in self._producer or not self.omitted:
                self._link(key, len(self.boxes))
                self.boxes.append(self._end("output", key))
        self._name_long_edges()

    def _add(self, place: int, node: GraphNode) -> None:
        index = len(self.boxes)
        for key in dict.fromkeys(node.inputs):
            self._link(key, index)
        for key in filter(None, node.outputs):
            self._producer[key] = index
            self._output_count[index] += 1
        self.boxes.append(self._operator(place, node))

    def _link(self, key: str, target: int) -> None:
        if key not in self._producer:
            return
        if len(self.links) < MAX_EDGES:
            self.links.append(Link(self._producer[key], target, key))
        else:
            self.omitted_edges += 1

    def _name_long_edges(self) -> None:
        rank = graph_layout.ranks(len(self.boxes), self.links)
        for link in self.links:
            if rank[link.target] - rank[link.source] > MAX_LAYERS_CROSSED:
                box = self.boxes[link.target]
                text = f"also takes {self._called(link.key)}, from far above"
                self.boxes[link.target] = _Box(
                    box.family, (*box.lines, ("", text)), f"{box.tooltip}\n{text}"
                )

    def _called(self, key: str) -> str:
        found = self.graph.tensors.get(key)
        return found.name if found else key

    def _end(self, kind: str, key: str) -> _Box:
        found = self.graph.tensors.get(key)
        shape = _shape(found)
        lines = (("operator", self._called(key)), ("shape", shape))
        return _Box(kind, lines, f"{kind} {self._called(key)}\n{shape}")

    def _operator(self, place: int, node: GraphNode) -> _Box:
        facts = list(attributes(node, [self.graph.shape(key) for key in node.inputs]))
        cost = []
        count = sum(self.graph.weight_elements(k) for k in node.inputs if k in self.graph.weights)
        if count:
            cost.append(f"{count:,} parameters" if count < 10**7 else f"{short(count)} parameters")
        if self.work.by_node.get(place):
            cost.append(f"{short(self.work.by_node[place])} MACs")
        shapes = [_shape(self.graph.tensors.get(key)) for key in node.outputs if key]
        lines = [("operator", node.operator)]
        lines += [("name", node.name)] if node.name else []
        lines += [("", " · ".join(facts))] if facts else []
        lines += [("", " · ".join(cost))] if cost else []
        lines += [("shape", shapes[0])] if len(shapes) == 1 else []
        return _Box(family(node), tuple(lines), self._tooltip(node, cost))

    def _tooltip(self, node: GraphNode, cost: list[str]) -> str:
        lines = [f"{node.domain} {node.operator}".strip(), node.name]
        lines += [f"{key}: {value}" for key, value in node.attributes.items()]
        for role, keys in (("input", node.inputs), ("output", node.outputs)):
            named = [key for key in keys if key][:MAX_NAMED_TENSORS]
            lines += [
                f"{role} {self._called(k)}: {_shape(self.graph.tensors.get(k))}" for k in named
            ]
        return "\n".join(filter(None, (*lines, *cost)))

    def edge_label(self, link: Link) -> str:
        """The tensor's shape where its operator has several outputs, else empty."""
        several = self._output_count[link.source] > 1
        return _shape(self.graph.tensors.get(link.key)) if several else ""

    def facts(self) -> Iterator[str]:
        macs = self.work.macs
        parts = [self.graph.origin, f"{len(self.graph.nodes):,} operators"]
        parts.append(f"{self.graph.parameters:,} parameters")
        if macs is not None:
            least = "at least " if self.work.unknown else ""
            parts.append(f"{least}{short(macs)} MACs ({short(2 * macs)} FLOPs)")
        yield " · ".join(parts)
        for operator, why in list(self.work.unknown.items())[:5]:
            yield f"not counted: {operator}: {why}"
        if self.constants:
            yield f"{self.constants:,} Constant operators are not drawn"
        if self.omitted_edges:
            yield f"{self.omitted_edges:,} more edges are not drawn"
        if self.omitted:
            yield f"the first {MAX_OPERATORS:,} operators are drawn, {self.omitted:,} more are not"


def short(value: int) -> str:
    """A count with a unit of thousands: ``300.8 M``."""
    for unit, size in (("T", 10**12), ("G", 10**9), ("M", 10**6), ("k", 10**3)):
        if value >= size:
            return f"{value / size:.4g} {unit}"
    return str(value)


def _shape(tensor: GraphTensor | None) -> str:
    if tensor is None or tensor.shape is None:
        return "shape unknown"
    dims = "×".join("?" if d == UNKNOWN else str(d) for d in tensor.shape) or "scalar"
    return f"{dims} {tensor.dtype}".strip()


def _legend(families: list[tuple[str, int]], width: float) -> Iterator[tuple[float, int, str, str]]:
    """x, row, family and label of each entry, wrapped to ``width``."""
    x, row = MARGIN, 0
    for key, count in families:
        label = f"{key} {count:,}"
        step = 40 + 7.2 * len(label)
        if x + step > width - MARGIN and x > MARGIN:
            x, row = MARGIN, row + 1
        yield x, row, key, label
        x += step


def _root(name: str, width: float, height: float) -> ElementTree.Element:
    root = ElementTree.Element(
        "svg",
        {
            "xmlns": "http://www.w3.org/2000/svg",
            "width": f"{width:.0f}",
            "height": f"{height:.0f}",
            "viewBox": f"0 0 {width:.0f} {height:.0f}",
        },
    )
    ElementTree.SubElement(root, "title").text = _clean(name)
    ElementTree.SubElement(root, "style").text = STYLE
    definitions = ElementTree.SubElement(root, "defs")
    head = {"id": "head", "viewBox": "0 0 8 8", "refX": "7", "refY": "4", "orient": "auto"}
    head |= {"markerWidth": "7", "markerHeight": "7"}
    marker = ElementTree.SubElement(definitions, "marker", head)
    ElementTree.SubElement(marker, "path", {"d": "M0 0L8 4L0 8z", "fill": "#8a8a8a"})
    ElementTree.SubElement(root, "rect", {"width": "100%", "height": "100%", "fill": "#fff"})
    return root


def _edge(parent: ElementTree.Element, route: list[Point], left: float, top: float) -> None:
    """Straight through layers, curved between them."""
    points = [(left + x, top + y) for x, y in route]
    path = [f"M{points[0][0]:.1f} {points[0][1]:.1f}"]
    for index, ((x, y), (to_x, to_y)) in enumerate(pairwise(points)):
        if (x, y) == (to_x, to_y):
            continue  # the arrow head takes its direction from the last step: it needs a length
        if index % 2 == 0 or abs(x - to_x) < 0.5:
            path.append(f"L{to_x:.1f} {to_y:.1f}")
        else:
            middle = (y + to_y) / 2
            path.append(f"C{x:.1f} {middle:.1f} {to_x:.1f} {middle:.1f} {to_x:.1f} {to_y:.1f}")
    ElementTree.SubElement(parent, "path", {"d": "".join(path), "marker-end": _ARROW_HEAD})


def _edge_label(
    parent: ElementTree.Element, label: str, route: list[Point], left: float, top: float
) -> None:
    if label:
        (x, y), (to_x, to_y) = route[-3:-1]
        _text(parent, left + (x + to_x) / 2 + 5, top + (y + to_y) / 2 + 3, "shape label", label)


def _draw_box(parent: ElementTree.Element, box: _Box, x: float, y: float) -> None:
    width, height = box.size
    left = x - width / 2
    colour = COLOURS[box.family]
    group = ElementTree.SubElement(parent, "g")
    ElementTree.SubElement(group, "title").text = _clean(box.tooltip)
    frame = {"x": f"{left:.1f}", "y": f"{y:.1f}", "width": f"{width:.0f}"}
    frame |= {"height": f"{height:.0f}", "rx": "14" if box.family in ("input", "output") else "4"}
    ElementTree.SubElement(group, "rect", {**frame, "fill": "#fff"})
    tint = {"fill": colour, "fill-opacity": "0.13", "stroke": colour, "stroke-width": "1.2"}
    ElementTree.SubElement(group, "rect", {**frame, **tint})
    if box.family not in ("input", "output"):
        bar = {**frame, "width": "6", "rx": "3", "fill": colour}
        ElementTree.SubElement(group, "rect", bar)
    for index, (kind, text) in enumerate(box.lines):
        fits = int((width - 26) / (7.4 if kind == "operator" else LETTER))
        shown = _shortened(text, fits, end=kind == "name" or box.family in ("input", "output"))
        _text(group, left + 15, y + PAD + LINE * index + 11.5, kind, shown)


def _swatch(parent: ElementTree.Element, x: float, y: float, key: str) -> None:
    place = {"x": f"{x:.1f}", "y": f"{y:.1f}", "width": "15", "height": "15"}
    look = {"fill": COLOURS[key], "fill-opacity": "0.55", "stroke": COLOURS[key]}
    rounded = {"rx": "7" if key in ("input", "output") else "3"}
    ElementTree.SubElement(parent, "rect", {**place, **look, **rounded})


def _text(parent: ElementTree.Element, x: float, y: float, kind: str, text: str) -> None:
    attributes = {"x": f"{x:.1f}", "y": f"{y:.1f}", **({"class": kind} if kind else {})}
    ElementTree.SubElement(parent, "text", attributes).text = _clean(text)


def _shortened(text: str, letters: int, end: bool) -> str:
    """``end``: keep the end of a text that is too long, where names of layers differ."""
    text = " ".join(text.split())
    if len(text) <= letters:
        return text
    return "…" + text[1 - letters :] if end else text[: letters - 1] + "…"


def _clean(text: str) -> str:
    """Replace characters that XML cannot hold, and bound the length."""
    text = text if len(text) <= MAX_LETTERS else text[: MAX_LETTERS - 1] + "…"
    return _NOT_XML.sub("\N{REPLACEMENT CHARACTER}", text)
