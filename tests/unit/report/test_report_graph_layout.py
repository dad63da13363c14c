"""The layered layout: boxes never overlap, edges lead down and pass beside boxes, in any graph."""

from __future__ import annotations

from itertools import combinations

from hypothesis import given
from hypothesis import strategies as st

from orchestrator.report.network import graph_layout
from orchestrator.report.network.graph_layout import Layout, Link

LONGEST = 60


def placed(count: int, links: list[Link], longest: int = LONGEST) -> Layout:
    sizes = [(100.0, 30.0 + 10 * (box % 4)) for box in range(count)]
    return graph_layout.place(sizes, links, graph_layout.ranks(count, links), longest)


@st.composite
def graphs(draw: st.DrawFn) -> tuple[int, list[Link]]:
    count = draw(st.integers(1, 14))
    pairs = [(a, b) for a in range(count) for b in range(a + 1, count)]
    chosen = draw(st.lists(st.sampled_from(pairs), max_size=24, unique=True)) if pairs else []
    keys = [draw(st.sampled_from("ab")) for _ in chosen]
    return count, [Link(a, b, key) for (a, b), key in zip(chosen, keys, strict=True)]


def rectangle(layout: Layout, box: int) -> tuple[float, float, float, float]:
    (x, y), height = layout.places[box], 30.0 + 10 * (box % 4)
    return x - 50, y, x + 50, y + height


@given(graphs())
def test_boxes_do_not_overlap_and_are_inside_the_drawing(graph: tuple[int, list[Link]]) -> None:
    layout = placed(*graph)
    found = [rectangle(layout, box) for box in range(graph[0])]
    for (l1, t1, r1, b1), (l2, t2, r2, b2) in combinations(found, 2):
        assert r1 < l2 + 1e-6 or r2 < l1 + 1e-6 or b1 < t2 + 1e-6 or b2 < t1 + 1e-6
    for left, top, right, bottom in found:
        assert left >= -1e-6
        assert top >= -1e-6
        assert right <= layout.width + 1e-6
        assert bottom <= layout.height + 1e-6


@given(graphs())
def test_edges_lead_down_from_box_to_box_and_never_behind_a_box(
    graph: tuple[int, list[Link]],
) -> None:
    count, links = graph
    layout = placed(count, links)
    for link, route in zip(links, layout.routes, strict=True):
        source, target = rectangle(layout, link.source), rectangle(layout, link.target)
        assert route[0] == (layout.places[link.source][0], source[3])
        assert route[-1] == (layout.places[link.target][0], target[1])
        assert [y for _, y in route] == sorted(y for _, y in route)
        for (x, top), (same, bottom) in zip(route[::2], route[1::2], strict=True):
            assert x == same  # straight within a layer
            for box in set(range(count)) - {link.source, link.target}:
                left, box_top, right, box_bottom = rectangle(layout, box)
                apart = x < left or x > right or bottom <= box_top or top >= box_bottom
                assert apart, (link, box)


def test_a_chain_is_straight() -> None:
    layout = placed(6, [Link(n, n + 1, "a") for n in range(5)])
    assert len({round(x, 3) for x, _ in layout.places}) == 1


def test_a_box_without_predecessor_is_just_above_its_successor() -> None:
    links = [Link(0, 1, "a"), Link(1, 2, "b"), Link(2, 4, "c"), Link(3, 4, "d")]
    assert graph_layout.ranks(5, links) == [0, 1, 2, 2, 3]


def test_links_that_lead_back_or_too_far_are_not_routed() -> None:
    chain = [Link(n, n + 1, "a") for n in range(5)]
    layout = placed(6, [*chain, Link(4, 1, "back"), Link(0, 5, "far")], longest=4)
    assert all(layout.routes[:5])
    assert layout.routes[5:] == [[], []]


def test_branches_that_need_not_cross_do_not() -> None:
    """Two parallel chains, given in an order that crosses them twice."""
    links = [Link(0, 3, "a"), Link(1, 2, "b"), Link(2, 5, "c"), Link(3, 4, "d")]
    layout = placed(6, links)
    x = [place[0] for place in layout.places]
    assert (x[0] - x[1]) * (x[3] - x[2]) > 0
    assert (x[3] - x[2]) * (x[4] - x[5]) > 0


def test_nothing_to_place() -> None:
    assert graph_layout.place([], [], [], LONGEST) == Layout([], [], 0.0, 0.0)
