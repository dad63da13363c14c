"""Which outputs of a network are no function of its inputs: random numbers, dropout in use, state.

The reference is run twice on the same inputs, within one process and in a second one. Outputs that
differ are marked in the reference itself, as members ``unrepeatable:NAME`` and ``stateful:NAME`` of
its ``.npz``, which releases that know no marks do not read. No cell is compared on such outputs.
"""

from __future__ import annotations

import zipfile
from io import BytesIO
from pathlib import Path
from typing import Any, Dict, FrozenSet, List, NamedTuple, Optional, Tuple

import numpy as np

from agent.runner import fidelity
from agent.runner.inference import infer, once
from agent.runtimes.backend import Explained, Feeds, Resettable, Session

UNREPEATABLE, STATEFUL = "unrepeatable:", "stateful:"
ROUNDING: Dict[str, float] = {"float16": 1e-2, "float32": 1e-4, "float64": 1e-4}
"""Difference between two runs that the order of sums may cause, of an output's largest value."""


class Marks(NamedTuple):
    """Names of outputs. ``stateful`` ones follow from the inputs where the state of earlier
    inferences is reset, ``unrepeatable`` ones never."""

    unrepeatable: FrozenSet[str]
    stateful: FrozenSet[str]


class Observed(NamedTuple):
    """Output → in words how far two runs of it differ; of ``stateful`` ones without a reset."""

    unrepeatable: Dict[str, str]
    stateful: Dict[str, str]


def observe(session: Session, feeds: Feeds, outputs: Feeds) -> Observed:
    """Run ``feeds`` again on the session that gave ``outputs`` by ``inference.infer``."""
    apart = differences(outputs, [once(session, feed) for feed in feeds])
    if not apart:
        return Observed({}, {})
    still = apart
    if isinstance(session, Resettable):
        still = differences(outputs, [infer(session, feed) for feed in feeds])
    blamed = _operators(session)
    return Observed(
        {name: words + blamed for name, words in still.items()},
        {name: words + blamed for name, words in apart.items() if name not in still},
    )


def _operators(session: Session) -> str:
    names = list(session.uncertain()) if isinstance(session, Explained) else []
    return "; its operators: %s" % ", ".join(names[:4]) if names else ""


def differences(first: Feeds, second: Feeds) -> Dict[str, str]:
    """Output → how far two runs on the same inputs differ, for those that do."""
    found: Dict[str, str] = {}
    for ours, theirs in zip(first, second):  # noqa: B905 - strict= is newer than 3.8
        for name, array in ours.items():
            words = _difference(np.asarray(array), np.asarray(theirs[name]))
            if words and name not in found:
                found[name] = words
    return found


def _difference(a: Any, b: Any) -> str:
    if a.shape != b.shape:
        return "its shape was %s, then %s" % (list(a.shape), list(b.shape))
    if a.dtype.kind != "f":
        unequal = int((a != b).sum())
        return "%d of %d values differ from run to run" % (unequal, a.size) if unequal else ""
    if not a.size:
        return ""
    x, y = a.astype(np.float64), b.astype(np.float64)
    apart = float(np.abs(x - y).max())
    largest = max(float(np.abs(x).max()), float(np.abs(y).max()))
    if not apart > ROUNDING.get(str(a.dtype), 1e-2) * largest:
        return ""
    share = 100.0 * apart / largest
    return "it differs by up to %.3g from run to run, %s %% of its largest value" % (
        apart,
        "%.0f" % share if share >= 1.0 else "%.2g" % share,
    )


def mark(reference: Path, found: Observed) -> None:
    """Add the marks to the file of a reference."""
    members = [UNREPEATABLE + name for name in found.unrepeatable]
    members += [STATEFUL + name for name in found.stateful]
    if not members:
        return
    content = BytesIO()
    np.save(content, np.ones((), np.uint8))
    with zipfile.ZipFile(str(reference), "a") as archive:
        known = set(archive.namelist())
        for member in members:
            if member + ".npy" not in known:
                archive.writestr(member + ".npy", content.getvalue())


def marks(reference: Path) -> Marks:
    """The marks in a reference's file; none where it cannot be read, which is said elsewhere."""
    try:
        with zipfile.ZipFile(str(reference)) as archive:
            names = [name[: -len(".npy")] for name in archive.namelist() if name.endswith(".npy")]
    except (OSError, zipfile.BadZipFile):
        names = []
    return Marks(
        frozenset(n[len(UNREPEATABLE) :] for n in names if n.startswith(UNREPEATABLE)),
        frozenset(n[len(STATEFUL) :] for n in names if n.startswith(STATEFUL)),
    )


def comparable(
    reference: Optional[Path], session: Session, actual: Feeds, expected: Feeds
) -> Tuple[Feeds, Feeds]:
    """Both without the outputs that cannot be compared: those that are marked as unrepeatable, and
    those with state where ``session`` cannot reset it. No feeds are left where that is all.

    Raises:
        BadOutput: not as many outputs as are expected.
    """
    known = marks(reference) if reference else Marks(frozenset(), frozenset())
    left_out = set(known.unrepeatable)
    if not isinstance(session, Resettable):
        left_out |= known.stateful
    if not left_out:
        return actual, expected
    ours: List[Dict[str, Any]] = []
    theirs: List[Dict[str, Any]] = []
    for given, wanted in zip(actual, expected):  # noqa: B905 - strict= is newer than 3.8
        given = fidelity.aligned(given, wanted)
        kept = [name for name in wanted if name not in left_out]
        if kept:
            ours.append({name: given[name] for name in kept})
            theirs.append({name: wanted[name] for name in kept})
    return ours, theirs
