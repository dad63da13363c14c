"""Inferences outside of the timed region."""

from __future__ import annotations

from typing import Any, Dict, Optional

from agent.runner.tensor_mapping import TensorMapping
from agent.runtimes.backend import Feed, Resettable, Session


def infer(session: Session, feed: Feed, mapping: Optional[TensorMapping] = None) -> Dict[str, Any]:
    """Outputs of one inference on the model's ``feed``, mapped to the artifact and back by
    ``mapping`` where there is one; the session has kept nothing of earlier inferences where it can
    be reset."""
    if isinstance(session, Resettable):
        session.reset()
    return once(session, feed, mapping)


def once(session: Session, feed: Feed, mapping: Optional[TensorMapping] = None) -> Dict[str, Any]:
    """The same in the state that the inferences before have left."""
    session.bind(mapping.feed(feed) if mapping else feed)
    session.infer()
    outputs = session.read()
    return mapping.outputs(outputs) if mapping else outputs
