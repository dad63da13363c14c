"""Checks that backends and converters make of a request: module, option, target, shapes."""

from __future__ import annotations

import importlib
from typing import Any, Collection, Dict, Mapping, Protocol, Sequence, Tuple

from agent.contract.device import RuntimeFacts, TargetFacts
from agent.contract.failures import (
    BadOption,
    RuntimeMissing,
    UnsupportedPrecision,
    UnsupportedShape,
    UnsupportedTarget,
    listed,
)
from agent.contract.trial import Option, TensorSpec
from agent.runtimes.backend import Options


def require_module(name: str, remedy: str) -> Any:
    """The module ``name``. Raises ``RuntimeMissing`` with ``remedy`` where it is not installed."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise RuntimeMissing(
            "%s cannot be imported (%s)" % (name.split(".")[0], error), remedy
        ) from error


class _Described(Protocol):
    @property
    def name(self) -> str: ...
    @property
    def accepts(self) -> Tuple[str, ...]: ...
    @property
    def options(self) -> Options: ...


def facts_of(backend: _Described, version: str, targets: Sequence[TargetFacts]) -> RuntimeFacts:
    """The answer of a probe. The environment's name is left empty; the caller knows it."""
    return RuntimeFacts(
        backend=backend.name,
        version=version,
        environment="",
        targets=tuple(targets),
        accepts=backend.accepts,
        options=dict(backend.options),
    )


def chosen(backend: str, accepted: Options, given: Mapping[str, Option]) -> Dict[str, str]:
    """The options in force: the given ones over the defaults (see ``Options``).

    Raises:
        BadOption: an unknown key or value; the message says what would be accepted.
    """
    found = {key: values[0] if values else "" for key, values in accepted.items()}
    for key, value in given.items():
        if key not in accepted:
            raise BadOption(
                "%s has no option %r; it has %s" % (backend, key, listed(sorted(accepted)))
            )
        found[key] = _text(value, accepted[key])
        if accepted[key] and found[key] not in accepted[key]:
            raise BadOption(
                "%s option %s is %r; it accepts %s" % (backend, key, value, listed(accepted[key]))
            )
    return found


def _text(value: Option, accepted: Sequence[str]) -> str:
    """An option's value as text. YAML reads ``on`` and ``off`` as booleans; this undoes it."""
    if isinstance(value, bool):
        return ("on" if value else "off") if "on" in accepted else str(value).lower()
    return str(value)


def require_target(backend: str, target: str, known: Collection[str]) -> None:
    """Raises ``UnsupportedTarget`` where ``target`` is not among ``known``."""
    if target not in known:
        raise UnsupportedTarget(backend, target, known)


def require_precision(backend: str, precision: str, known: Sequence[str]) -> None:
    """Raises ``UnsupportedPrecision`` where ``precision`` is not among ``known``."""
    if precision not in known:
        raise UnsupportedPrecision(backend, precision, known)


def require_shapes(wanted: Sequence[TensorSpec], has: Sequence[TensorSpec]) -> None:
    """Check that ``wanted`` are exactly the model's inputs and fit them (-1 fits any size).

    Raises:
        UnsupportedShape: names the input, the model's shape and the wanted one.
    """
    by_name = {spec.name: spec for spec in has}
    if {spec.name for spec in wanted} != set(by_name):
        raise UnsupportedShape(
            "the model's inputs are %s; asked for %s"
            % (listed(sorted(by_name)), listed(sorted(spec.name for spec in wanted)))
        )
    for spec in wanted:
        found = by_name[spec.name].shape
        if not fits(spec.shape, found):
            raise UnsupportedShape(
                "input %s: the model takes %s, asked for %s"
                % (spec.name, shown(found), shown(spec.shape))
            )


def fits(shape: Sequence[int], model: Sequence[int]) -> bool:
    """Whether ``shape`` is one of the shapes that ``model`` (-1: free) allows."""
    pairs = zip(shape, model)  # noqa: B905 - strict= is newer than 3.8
    return len(shape) == len(model) and all(m in (-1, d) for d, m in pairs)


def shown(shape: Sequence[int]) -> str:
    """``[1, free, 4]``, for messages."""
    return "[%s]" % ", ".join("free" if d == -1 else str(d) for d in shape)
