"""The checks that every backend makes of what it is asked for."""

from __future__ import annotations

from typing import (
    Collection,
    Dict,
    Mapping,
    Protocol,
    Sequence,
    Tuple,
)

from agent.contract.device import RuntimeFacts, TargetFacts
from agent.contract.failures import (
    BadOption,
    UnsupportedPrecision,
    UnsupportedShape,
    UnsupportedTarget,
    listed,
)
from agent.contract.trial import Option, TensorSpec
from agent.runtimes.backend import Options


class _Offering(Protocol):
    @property
    def name(self) -> str: ...
    @property
    def accepts(self) -> Tuple[str, ...]: ...
    @property
    def options(self) -> Options: ...


def facts_of(backend: _Offering, version: str, targets: Sequence[TargetFacts]) -> RuntimeFacts:
    """What a probe found; whoever asked knows the name of the environment."""
    return RuntimeFacts(
        backend=backend.name,
        version=version,
        environment="",
        targets=tuple(targets),
        accepts=backend.accepts,
        options=dict(backend.options),
    )


def chosen(backend: str, accepted: Options, given: Mapping[str, Option]) -> Dict[str, str]:
    """The options in force: the given ones over each option's first accepted value (an option that
    lists none accepts any text; left out, it is empty).

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
    """YAML reads ``on`` and ``off`` as booleans: they are meant as written."""
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
    """Every wanted input exists in the model and fits it (-1 fits all), and none is left out.

    Raises:
        UnsupportedShape: names the input, the model's shape and the one asked for.
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
    pairs = zip(shape, model)  # noqa: B905 - strict= is newer than 3.8
    return len(shape) == len(model) and all(m in (-1, d) for d, m in pairs)


def shown(shape: Sequence[int]) -> str:
    return "[%s]" % ", ".join("free" if d == -1 else str(d) for d in shape)
