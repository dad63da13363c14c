"""The inputs of a reference, and what is said where the network does not run on them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, Mapping, NamedTuple, Optional, Tuple

import numpy as np

from agent.contract.child_jobs import ReferenceJob
from agent.contract.failures import BadData, RunnerError, listed
from agent.contract.input_values import GIVEN, NORMAL, InputValues, plain
from agent.runner import drawn_inputs
from agent.runner.feeds import given_feeds, sample_feeds, seeded
from agent.runner.inference import infer
from agent.runtimes.backend import Feed, Feeds, KnowsValues, Session

MOST_GIVEN = 64
"""Most feeds that somebody may give: each is run once in every trial's verification."""


class ReferenceInputs(NamedTuple):
    """``feeds``, and for each input what its values came from."""

    feeds: Feeds
    values: Dict[str, InputValues]


def of_job(
    job: ReferenceJob, session: Session, data: Optional[Mapping[str, Any]]
) -> ReferenceInputs:
    """The given feeds, else the first samples of the data set, else drawn values; inputs that the
    given feeds leave out are drawn.

    Raises:
        BadData: what was given or declared does not fit the model.
    """
    if job.feeds < 1:
        raise BadData("a reference needs at least 1 feed, not %d" % job.feeds)
    specs = session.inputs
    own = session.input_values() if isinstance(session, KnowsValues) else {}
    values = drawn_inputs.of_inputs(specs, job.declared, {**own, **job.found})
    if job.given is None and data is None:
        return ReferenceInputs(seeded(specs, job.seed, job.feeds, values), values)
    if job.given is None:
        feeds = sample_feeds((data or {})["inputs"], specs, "inputs")[: job.feeds]
        why = "the first samples of the data set"
        return ReferenceInputs(feeds, {s.name: InputValues(GIVEN, why=why) for s in specs})
    given = given_feeds(Path(job.given), specs)
    if len(given) > MOST_GIVEN:
        raise BadData("it holds %d feeds; at most %d are accepted" % (len(given), MOST_GIVEN))
    drawn = seeded(specs, job.seed, len(given), values)
    both = [{**d, **g} for d, g in zip(drawn, given)]  # noqa: B905 - strict= is newer than 3.8
    feeds = [{spec.name: feed[spec.name] for spec in specs} for feed in both]
    why = "given, %d feeds" % len(given) if len(given) > 1 else "given"
    return ReferenceInputs(
        feeds, {n: InputValues(GIVEN, why=why) if n in given[0] else v for n, v in values.items()}
    )


def run(session: Session, inputs: ReferenceInputs) -> Feeds:
    """The outputs for each feed.

    Raises:
        BadData: the runtime refuses the values; names the input and how to give its values.
    """
    found: Feeds = []
    for number, feed in enumerate(inputs.feeds):
        try:
            found.append(infer(session, feed))
        except (RunnerError, MemoryError):
            raise
        except Exception as error:  # each runtime raises its own
            refused = _Refused(session, inputs.values, feed)
            message = refused.message(number + 1, sentence(error))
            if not message:
                raise
            raise BadData(message) from error
    return found


def sentence(error: Exception, most: int = 300) -> str:
    """What a runtime said, on one line, cut between words."""
    words, found = str(error).split(), ""
    for word in words:
        if len(found) + len(word) >= most:
            return found + " …"
        found = ("%s %s" % (found, word)).strip()
    return found or type(error).__name__


class _Refused(NamedTuple):
    """A feed that the network does not run on; other feeds are tried to find the input that is the
    reason."""

    session: Session
    values: Mapping[str, InputValues]
    feed: Feed

    def message(self, number: int, said: str) -> str:
        """Empty where the values are no reason: all are standard normal."""
        if all(v.kind == GIVEN for v in self.values.values()):
            return "the network does not run on the given inputs, feed %d: %s" % (number, said)
        drawn = [n for n, v in self.values.items() if v.kind not in (NORMAL, GIVEN)]
        if not drawn:
            return ""
        for name in drawn:
            if self._runs(name, 0):
                return self._of_one(name, said)
        words = listed("%s: %s" % (name, self.values[name].words) for name in drawn)
        return (
            "the network does not run on the values that were drawn: %s. Drawn were %s. If they"
            " have a meaning, say it: --input %s:range=LOW,HIGH or --input %s:values=V,…; or give"
            " all inputs: --inputs FEEDS.npz" % (said, words, drawn[0], drawn[0])
        )

    def _of_one(self, name: str, said: str) -> str:
        low, high = 0, int(min(max(np.max(self.feed[name]), 1), 2**40))
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self._runs(name, middle) else (low, middle)
        return (
            "the network does not run on the values that were drawn for input %s, %s: %s. It runs"
            " on %s: say what they mean with --input %s:range=0,%s, or give all inputs:"
            " --inputs FEEDS.npz"
            % (name, self.values[name].words, said, _span(low), name, plain(low))
        )

    def _runs(self, name: str, value: int) -> bool:
        """Whether the network runs where all elements of one input are ``value``."""
        try:
            infer(self.session, {**self.feed, name: np.full_like(self.feed[name], value)})
        except Exception:  # noqa: BLE001 - each runtime raises its own
            return False
        return True


def _span(high: int) -> str:
    return "0…%d" % high if high else "0"


def shapes(outputs: Feeds) -> Dict[str, Tuple[int, ...]]:
    """The shape of each output; -1 where feeds have other sizes.

    Raises:
        BadData: an output has not as many axes for every feed.
    """
    found: Dict[str, Tuple[int, ...]] = {}
    for name in outputs[0]:
        seen = {output[name].shape for output in outputs}
        ranks = {len(shape) for shape in seen}
        if len(ranks) != 1:
            words = " and ".join(str(list(shape)) for shape in sorted(seen, key=len)[:2])
            raise BadData("output %s has other axes for other inputs: %s" % (name, words))
        sizes = zip(*seen)  # noqa: B905 - newer than 3.8
        found[name] = tuple(s[0] if len(set(s)) == 1 else -1 for s in sizes)
    return found
