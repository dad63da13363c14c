"""Cheapest conversion path: pure, so checked against every simple path of small graphs."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agent.graph import Edge, cheapest

A, B, C, D = ("a", "fp32"), ("b", "fp32"), ("c", "fp32"), ("d", "int8")


def names(way: tuple[Edge, ...] | None) -> list[str] | None:
    return None if way is None else [edge.converter for edge in way]


def test_a_start_that_is_a_goal_needs_nothing() -> None:
    assert cheapest([Edge("x", A, B)], A, (B, A)) == ()


def test_no_way_is_none() -> None:
    assert cheapest([Edge("x", B, A)], A, (B,)) is None


def test_two_cheap_steps_beat_one_dear_one() -> None:
    edges = [Edge("direct", A, C, 5.0), Edge("first", A, B, 1.0), Edge("second", B, C, 1.0)]
    assert names(cheapest(edges, A, (C,))) == ["first", "second"]


def test_the_cheaper_goal_wins_and_the_earlier_one_breaks_a_tie() -> None:
    edges = [Edge("to_b", A, B, 2.0), Edge("to_c", A, C, 1.0), Edge("to_d", A, D, 1.0)]
    assert names(cheapest(edges, A, (B, C))) == ["to_c"]
    assert names(cheapest(edges, A, (D, C))) == ["to_d"]
    assert names(cheapest(edges, A, (C, D))) == ["to_c"]


def test_a_circle_ends() -> None:
    edges = [Edge("there", A, B), Edge("back", B, A), Edge("on", B, C)]
    assert names(cheapest(edges, A, (C,))) == ["there", "on"]


NODES = st.sampled_from([A, B, C, D])
EDGES = st.lists(
    st.builds(Edge, st.sampled_from("pqrs"), NODES, NODES, st.sampled_from([1.0, 2.0, 3.0])),
    max_size=10,
)


def best_cost(edges: list[Edge], at: tuple[str, str], goal: tuple[str, str]) -> float:
    if at == goal:
        return 0.0
    rest = [e for e in edges if e.target != at]
    costs = [
        e.cost + best_cost([r for r in rest if r.source != at], e.target, goal)
        for e in rest
        if e.source == at
    ]
    return min(costs, default=float("inf"))


@given(EDGES)
def test_no_simple_path_is_cheaper_and_the_order_of_edges_is_moot(edges: list[Edge]) -> None:
    way = cheapest(edges, A, (D,))
    assert way == cheapest(list(reversed(edges)), A, (D,))
    expected = best_cost(edges, A, D)
    assert (sum(e.cost for e in way) if way is not None else float("inf")) == expected
