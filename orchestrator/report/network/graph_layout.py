"""Layered layout of boxes from top to bottom, after Sugiyama, Tagawa and Toda (1981).

Layers by longest path; a dummy vertex in each layer that an edge crosses, so that edges pass beside
boxes and never behind them; order within layers by barycentres; x coordinates by least squares.
Why no library does this: docs/decisions/0016-own-graph-drawing.md.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

LAYER_GAP, COLUMN_GAP, COMPONENT_GAP, DUMMY_WIDTH = 34.0, 26.0, 60.0, 12.0
"""Pixels between layers, vertices of a layer and connected components; width of a dummy vertex."""
ORDER_SWEEPS, PLACEMENT_SWEEPS = 8, 24
STRAIGHTNESS = {(False, False): 4.0, (False, True): 0.1, (True, False): 0.1, (True, True): 8.0}
"""Weight of an edge in the placement, by whether its ends are dummy vertices: chains of boxes and
chains of dummies stay straight, edges bend where the two meet."""

Point = tuple[float, float]


@dataclass(frozen=True)
class Link:
    """An edge from one box to another, by index. Links of one source and ``key`` (the tensor) share
    their dummy vertices, and so their route down to where they part."""

    source: int
    target: int
    key: str


@dataclass(frozen=True)
class Layout:
    """``places``: x of each box's centre and y of its top. ``routes``: for each link the points it
    passes, two per layer that it crosses; empty where it crosses too many. All in pixels."""

    places: list[Point]
    routes: list[list[Point]]
    width: float
    height: float


def ranks(count: int, links: Sequence[Link]) -> list[int]:
    """The layer of each box, by longest path; links to a lower index are ignored.

    A box without a predecessor is put on the layer above its first successor.
    """
    found = [0] * count
    has_source = [False] * count
    for link in sorted(links, key=lambda link: link.target):
        if link.source < link.target:
            found[link.target] = max(found[link.target], found[link.source] + 1)
            has_source[link.target] = True
    below: dict[int, int] = {}
    for link in links:
        if link.source < link.target and not has_source[link.source]:
            lowest = below.get(link.source, found[link.target] - 1)
            below[link.source] = min(lowest, found[link.target] - 1)
    return [below.get(box, rank) for box, rank in enumerate(found)]


def place(
    sizes: Sequence[tuple[float, float]],
    links: Sequence[Link],
    rank: Sequence[int],
    longest: int,
) -> Layout:
    """Places for boxes of ``sizes`` (width, height) on the layers of ``rank``.

    ``longest``: layers that a link may cross and still be routed. Connected components of the
    routed links stand side by side.
    """
    places: list[Point] = [(0.0, 0.0)] * len(sizes)
    routes: list[list[Point]] = [[] for _ in links]
    routed = [
        n for n, link in enumerate(links) if 0 < rank[link.target] - rank[link.source] <= longest
    ]
    width = height = 0.0
    for boxes, joined in _components(len(sizes), links, routed):
        at = {box: index for index, box in enumerate(boxes)}
        first = min(rank[box] for box in boxes)
        layered = _LayeredGraph(
            [sizes[box] for box in boxes],
            [Link(at[links[n].source], at[links[n].target], links[n].key) for n in joined],
            [rank[box] - first for box in boxes],
        )
        layered.order()
        layered.place()
        component = layered.layout()
        left = width + COMPONENT_GAP if width else 0.0
        for box, (x, y) in zip(boxes, component.places, strict=True):
            places[box] = (left + x, y)
        for n, route in zip(joined, component.routes, strict=True):
            routes[n] = [(left + x, y) for x, y in route]
        width, height = left + component.width, max(height, component.height)
    return Layout(places, routes, width, height)


def _components(
    count: int, links: Sequence[Link], routed: Sequence[int]
) -> Iterator[tuple[list[int], list[int]]]:
    """Boxes and links, by index, of each connected component, ordered by first box; union-find."""
    parent = list(range(count))

    def root(box: int) -> int:
        while parent[box] != box:
            parent[box] = box = parent[parent[box]]
        return box

    for n in routed:
        one, other = sorted((root(links[n].source), root(links[n].target)))
        parent[other] = one
    boxes: dict[int, list[int]] = {}
    joined: dict[int, list[int]] = {}
    for box in range(count):
        boxes.setdefault(root(box), []).append(box)
    for n in routed:
        joined.setdefault(root(links[n].source), []).append(n)
    for first, members in boxes.items():
        yield members, joined.get(first, [])


class _LayeredGraph:
    """One component. Vertices are its boxes, then dummies; ``layers`` hold them from left to right;
    ``up`` and ``down`` are their neighbours on the layers above and below."""

    def __init__(
        self,
        sizes: Sequence[tuple[float, float]],
        links: Sequence[Link],
        rank: Sequence[int],
    ) -> None:
        self.sizes, self.boxes = sizes, len(sizes)
        self.rank = list(rank)
        self.links = list(links)
        self.up: list[list[int]] = [[] for _ in sizes]
        self.down: list[list[int]] = [[] for _ in sizes]
        self.paths = self._paths()
        self.layers: list[list[int]] = [[] for _ in range(max(self.rank) + 1)]
        for vertex, layer in enumerate(self.rank):
            self.layers[layer].append(vertex)
        self.x = [0.0] * len(self.rank)

    def _paths(self) -> list[list[int]]:
        """The vertices that each link goes through, its ends included."""
        chains: dict[tuple[int, str], list[int]] = {}
        found: list[list[int]] = []
        for link in self.links:
            span = self.rank[link.target] - self.rank[link.source]
            chain = chains.setdefault((link.source, link.key), [link.source])
            while len(chain) < span:
                self._join(chain[-1], self._dummy(self.rank[chain[-1]] + 1))
                chain.append(len(self.rank) - 1)
            self._join(chain[span - 1], link.target)
            found.append([*chain[:span], link.target])
        return found

    def _dummy(self, layer: int) -> int:
        self.rank.append(layer)
        self.up.append([])
        self.down.append([])
        return len(self.rank) - 1

    def _join(self, upper: int, lower: int) -> None:
        self.down[upper].append(lower)
        self.up[lower].append(upper)

    def _width(self, vertex: int) -> float:
        return self.sizes[vertex][0] if vertex < self.boxes else DUMMY_WIDTH

    def order(self) -> None:
        """Sweep down and up by barycentres; keep the order with the fewest crossings."""
        best, fewest = [list(layer) for layer in self.layers], self._crossings()
        for sweep in range(ORDER_SWEEPS):
            if not fewest:
                break
            downwards = sweep % 2 == 0
            near = self.up if downwards else self.down
            for layer in self.layers if downwards else reversed(self.layers):
                self._sort(layer, near)
            crossings = self._crossings()
            if crossings < fewest:
                best, fewest = [list(layer) for layer in self.layers], crossings
        self.layers = best

    def _sort(self, layer: list[int], near: list[list[int]]) -> None:
        others = {v for vertex in layer for v in near[vertex]}
        at = {
            v: i for rank in {self.rank[v] for v in others} for i, v in enumerate(self.layers[rank])
        }
        centre = {
            vertex: sum(at[v] for v in near[vertex]) / len(near[vertex]) if near[vertex] else place
            for place, vertex in enumerate(layer)
        }
        layer.sort(key=centre.__getitem__)

    def _crossings(self) -> int:
        total = 0
        for upper, lower in zip(self.layers, self.layers[1:], strict=False):
            at = {vertex: place for place, vertex in enumerate(lower)}
            seen: list[int] = []
            for vertex in upper:
                ends = sorted(at[v] for v in self.down[vertex])
                total += sum(len(seen) - bisect_right(seen, end) for end in ends)
                for end in ends:
                    insort(seen, end)
        return total

    def place(self) -> None:
        """x coordinates: each vertex near its neighbours, in the layer's order, without overlap."""
        for layer in self.layers:
            self._pack(layer, [0.0] * len(layer), [1.0] * len(layer))
        for turn in range(PLACEMENT_SWEEPS):
            both_sides = turn >= PLACEMENT_SWEEPS // 2
            for layer in self.layers if turn % 2 == 0 else reversed(self.layers):
                near = (self.up, self.down) if both_sides else ((self.up, self.down)[turn % 2],)
                wanted, weights = [], []
                for vertex in layer:
                    pull = total = 0.0
                    for other in (v for side in near for v in side[vertex]):
                        weight = STRAIGHTNESS[vertex >= self.boxes, other >= self.boxes]
                        pull, total = pull + weight * self.x[other], total + weight
                    wanted.append(pull / total if total else self.x[vertex])
                    weights.append(total or 0.1)
                self._pack(layer, wanted, weights)

    def _pack(self, layer: list[int], wanted: list[float], weights: list[float]) -> None:
        """Least-squares x coordinates with minimum distances, by pool-adjacent-violators."""
        offsets, at = [], 0.0
        for place, vertex in enumerate(layer):
            if place:
                at += (self._width(layer[place - 1]) + self._width(vertex)) / 2 + COLUMN_GAP
            offsets.append(at)
        blocks: list[tuple[float, float, int]] = []
        for want, weight, offset in zip(wanted, weights, offsets, strict=True):
            mean, mass, size = want - offset, weight, 1
            while blocks and blocks[-1][0] > mean:
                other, other_mass, other_size = blocks.pop()
                mean = (mean * mass + other * other_mass) / (mass + other_mass)
                mass, size = mass + other_mass, size + other_size
            blocks.append((mean, mass, size))
        places = [mean for mean, _, size in blocks for _ in range(size)]
        for vertex, place_, offset in zip(layer, places, offsets, strict=True):
            self.x[vertex] = place_ + offset

    def layout(self) -> Layout:
        left = min(x - self._width(v) / 2 for v, x in enumerate(self.x))
        right = max(x + self._width(v) / 2 for v, x in enumerate(self.x))
        tops, bottoms, y = [], [], 0.0
        for layer in self.layers:
            tops.append(y)
            y += max((self.sizes[v][1] for v in layer if v < self.boxes), default=DUMMY_WIDTH)
            bottoms.append(y)
            y += LAYER_GAP
        x = [value - left for value in self.x]
        places = []
        for box, (_, height) in enumerate(self.sizes):
            layer_ = self.rank[box]
            places.append((x[box], (tops[layer_] + bottoms[layer_] - height) / 2))
        routes = []
        for path in self.paths:
            points = [(x[v], y) for v in path for y in (tops[self.rank[v]], bottoms[self.rank[v]])]
            source, target = path[0], path[-1]
            points[0] = (x[source], places[source][1] + self.sizes[source][1])
            points[-1] = (x[target], places[target][1])
            routes.append(points)
        return Layout(places, routes, right - left, y - LAYER_GAP)
