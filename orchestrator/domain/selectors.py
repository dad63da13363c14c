"""``key=value`` selectors of the command line (``-l class=jetson-nano``) and of sweeps."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from orchestrator.domain.errors import UserError


def parse(pairs: Iterable[str]) -> dict[str, str]:
    """``["class=x", "rack=2"]`` as a mapping. Raises ``UserError`` if there is no ``=``."""
    selector: dict[str, str] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key.strip():
            raise UserError(f"selector {pair!r}: expected KEY=VALUE, such as class=jetson-nano")
        selector[key.strip()] = value.strip()
    return selector


def matches(selector: Mapping[str, str], labels: Mapping[str, str]) -> bool:
    """Whether ``labels`` has every key of ``selector`` with the same value."""
    return all(labels.get(key) == value for key, value in selector.items())
