"""Cheapest conversion path: pure, so checked against every simple path of small graphs."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agent.contract.conversion_graph import (
    ConversionPath,
    Edge,
    Tool,
    cheapest_path,
    missing_tools,
    remaining_via,
    segments,
    split_path,
    usable,
)

A, B, C, D = ("a", "fp32"), ("b", "fp32"), ("c", "fp32"), ("d", "int8")


def names(way: tuple[Edge, ...] | None) -> list[str] | None:
    return None if way is None else [edge.converter for edge in way]


def test_a_start_that_is_a_goal_needs_nothing() -> None:
    assert cheapest_path([Edge("x", A, B)], (A,), (B, A)) == ()


def test_no_way_is_none() -> None:
    assert cheapest_path([Edge("x", B, A)], (A,), (B,)) is None


def test_two_cheap_steps_beat_one_dear_one() -> None:
    edges = [Edge("direct", A, C, 5.0), Edge("first", A, B, 1.0), Edge("second", B, C, 1.0)]
    assert names(cheapest_path(edges, (A,), (C,))) == ["first", "second"]


def test_the_cheaper_goal_wins_and_the_earlier_one_breaks_a_tie() -> None:
    edges = [Edge("to_b", A, B, 2.0), Edge("to_c", A, C, 1.0), Edge("to_d", A, D, 1.0)]
    assert names(cheapest_path(edges, (A,), (B, C))) == ["to_c"]
    assert names(cheapest_path(edges, (A,), (D, C))) == ["to_d"]
    assert names(cheapest_path(edges, (A,), (C, D))) == ["to_c"]


def test_a_circle_ends() -> None:
    edges = [Edge("there", A, B), Edge("back", B, A), Edge("on", B, C)]
    assert names(cheapest_path(edges, (A,), (C,))) == ["there", "on"]


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
    way = cheapest_path(edges, (A,), (D,))
    assert way == cheapest_path(list(reversed(edges)), (A,), (D,))
    expected = best_cost(edges, A, D)
    assert (sum(e.cost for e in way) if way is not None else float("inf")) == expected


def test_of_several_starts_the_cheaper_one_is_taken_and_the_earlier_breaks_a_tie() -> None:
    edges = [Edge("from_a", A, D, 2.0), Edge("from_b", B, D, 1.0), Edge("from_c", C, D, 1.0)]
    assert names(cheapest_path(edges, (A, B, C), (D,))) == ["from_b"]
    assert names(cheapest_path(edges, (C, B), (D,))) == ["from_c"]
    assert cheapest_path(edges, (A, D), (D,)) == ()


def test_a_way_may_be_made_to_lead_through_converters_in_order() -> None:
    edges = [Edge("direct", A, C), Edge("first", A, B), Edge("second", B, C, 3.0)]
    assert names(cheapest_path(edges, (A,), (C,), via=("second",))) == ["first", "second"]
    assert names(cheapest_path(edges, (A,), (C,), via=("first", "second"))) == ["first", "second"]
    assert cheapest_path(edges, (A,), (C,), via=("second", "first")) is None


def test_through_a_converter_even_where_the_start_is_a_goal() -> None:
    edges = [Edge("there", A, B), Edge("back", B, A)]
    assert names(cheapest_path(edges, (A,), (A,), via=("back",))) == ["there", "back"]


def test_the_environment_that_loads_the_result_is_preferred() -> None:
    edges = [Edge("x", A, B, 1.0, "one"), Edge("x", A, B, 1.0, "two")]
    for home in ("one", "two"):
        way = cheapest_path(edges, (A,), (B,), home=home)
        assert way is not None
        assert [edge.environment for edge in way] == [home]


def test_a_tool_that_lacks_something_or_may_not_run_there_is_not_used() -> None:
    whole = Tool("x", (Edge("x", A, B),))
    absent = Tool("y", (Edge("y", A, C),), missing=("tensorflow",))
    here_only = Tool("z", (Edge("z", A, D),), where=("device",))
    assert usable((whole, absent, here_only)) == [Edge("x", A, B), Edge("z", A, D)]
    assert usable((whole, absent, here_only), "builder") == [Edge("x", A, B)]


def test_what_is_lacking_is_as_little_as_can_be() -> None:
    tools = (
        Tool("there", (Edge("there", A, B),)),
        Tool("on", (Edge("on", B, D),), "one", ("p", "q")),
        Tool("on", (Edge("on", B, D),), "two", ("q",)),
        Tool("straight", (Edge("straight", A, D, 0.1),), missing=("s",)),
        Tool("more", (Edge("more", C, D),), missing=("r",)),
    )
    assert missing_tools(tools[:3], (A,), (D,)) == (tools[2],)
    assert missing_tools(tools, (A,), (D,)) == (tools[3],)
    assert missing_tools(tools, (A,), (D,), via=("there",)) == (tools[2],)
    assert missing_tools(tools, (A,), (("e", "fp32"),)) is None
    assert missing_tools(tools, (A,), (B,)) == ()


def test_a_way_is_cut_where_the_environment_changes() -> None:
    way = (
        Edge("a", A, B, environment="x"),
        Edge("b", B, C, environment="x"),
        Edge("c", C, D, environment="y"),
    )
    assert segments(way) == (way[:2], way[2:])
    assert segments(()) == ()


def both(ways: tuple[ConversionPath, ConversionPath] | None) -> list[list[str]] | None:
    return None if ways is None else [[edge.converter for edge in way] for way in ways]


def test_work_is_split_at_one_node() -> None:
    there = [Edge("export", A, B, environment="x"), Edge("compile", C, D, environment="x")]
    here = [Edge("shrink", B, C, environment="y"), Edge("load", C, D, 9.0, "y")]
    ways = split_path(there, here, (A,), (D,), home="y")
    assert both(ways) == [["export"], ["shrink", "load"]], "never there, here and there again"
    assert ways is not None
    assert ways[0] == (there[0],)
    assert ways[1] == (here[0], here[1])
    assert split_path(there, here[:1], (A,), (D,)) is None
    assert split_path([], here, (B,), (D,)) is None, "alone it needs no split"


def test_of_splits_the_cheapest_sum_is_taken_and_the_other_machine_spared_at_a_tie() -> None:
    there = [Edge("first", A, B), Edge("second", B, C)]
    dear, cheap = [Edge("mine", B, C, 2.0)], [Edge("mine", B, C, 0.5)]
    assert both(split_path(there, dear, (A,), (C,))) == [["first", "second"], []]
    assert both(split_path(there, cheap, (A,), (C,))) == [["first"], ["mine"]]
    same = [Edge("second", B, C, environment="home")]
    assert both(split_path(there, same, (A,), (C,), home="home")) == [["first"], ["second"]]
    named_alike = [Edge("first", A, B, environment="home"), Edge("second", B, C, 1.0, "home")]
    assert both(split_path(named_alike, same, (A,), (C,), home="home")) == [["first"], ["second"]]


def test_a_split_leads_through_what_is_asked_for_on_either_side() -> None:
    there = [Edge("cheap", A, B), Edge("dear", A, B, 5.0)]
    here = [Edge("plain", B, C), Edge("tuned", B, C, 5.0)]
    assert both(split_path(there, here, (A,), (C,), ("dear", "tuned"))) == [["dear"], ["tuned"]]
    assert split_path(there, here, (A,), (C,), ("tuned", "dear")) is None


def test_what_remains_of_a_route_after_its_first_part() -> None:
    way = (Edge("a", A, B), Edge("b", B, C))
    assert remaining_via(("a", "x"), way) == ("x",)
    assert remaining_via(("b",), way) == ()
    assert remaining_via(("x", "a"), way) == ("x", "a")
    assert remaining_via((), way) == ()
