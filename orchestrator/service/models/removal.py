"""Removing models, or one file of a model, that no sweep uses."""

from __future__ import annotations

from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from orchestrator.domain.errors import Conflict, NotFound
from orchestrator.service.context import FarmContext
from orchestrator.service.models import further_formats, registration
from orchestrator.service.views import RemovedModelView
from orchestrator.store import blob_references
from orchestrator.store.tables import SWEEP, Artifact, Cell, Model, Sweep

MOST_NAMED = 5


def remove(farm: FarmContext, name: str, form: str = "") -> RemovedModelView:
    """Forget a model with all its files, or only its file in format ``form``, and delete the blobs
    that nothing else refers to.

    Raises:
        NotFound: there is no such model, or it has no such file.
        Conflict: sweeps use it, or ``form`` is the file that gave the reference.
    """
    with farm.database.transaction() as session:
        blob_references.lock_blobs_exclusively(session)  # no sweep is submitted meanwhile
        model = registration.find(session, name)
        artifacts = [a for a in model.artifacts if form in ("", a.format)]
        if not artifacts:
            raise NotFound(f"file of model {name} in format", form, _formats(model))
        _require_unused(session, model, artifacts, form)
        formats = [a.format for a in artifacts]
        digests = {a.sha256 for a in artifacts}
        if form:
            [artifact] = artifacts
            if artifact.checked == further_formats.REFERENCE:
                raise Conflict(
                    f"the {form} file gave the reference of model {name!r}, with which all else is "
                    f"compared: it goes with the whole model (`benchfarm model remove {name}`)"
                )
            model.artifacts.remove(artifact)
        else:
            digests |= {ref["sha256"] for ref in (model.reference, model.dataset) if ref}
            session.delete(model)
        farm.record_event(session, "model_removed", name, formats=formats)
    sizes = {d: farm.blobs.path(d).stat().st_size for d in digests if farm.blobs.has(d)}
    freed = farm.free_blobs(sizes)
    return RemovedModelView(
        name=name,
        formats=formats,
        freed_blobs=len(freed),
        freed_bytes=sum(sizes[digest] for digest in freed),
    )


def _formats(model: Model) -> list[str]:
    return [artifact.format for artifact in model.artifacts]


def _require_unused(session: Session, model: Model, artifacts: list[Artifact], form: str) -> None:
    """Raises ``Conflict`` where sweeps have cells of the model, or of its file in ``form``."""
    rows = session.execute(
        select(Sweep.name, Sweep.finished_at, Cell.request, Cell.configuration)
        .join(Cell, Cell.sweep_id == Sweep.id)
        .where(Cell.model == model.name, Sweep.kind == SWEEP)
        .order_by(Sweep.id, Cell.id)
    ).all()
    files = {a.sha256: a.format for a in artifacts}
    found: dict[str, set[str]] = {}
    running: set[str] = set()
    for sweep, ended, request, configuration in rows:
        source = _source(request, configuration)
        if form and source not in files:
            continue
        found.setdefault(sweep, set()).add(files.get(source, ""))
        if ended is None:
            running.add(sweep)
    if not found:
        return
    what = f"the {form} file of model {model.name!r}" if form else f"model {model.name!r}"
    named = [_words(sweep, formats, sweep in running) for sweep, formats in found.items()]
    more = f" and {len(named) - MOST_NAMED} more" if len(named) > MOST_NAMED else ""
    first = next(iter(found))
    raise Conflict(
        f"{what} is used by {len(named)} sweep{'s' if len(named) > 1 else ''}: "
        f"{', '.join(named[:MOST_NAMED])}{more}; delete them first "
        f"(`benchfarm sweep delete {first}`), or keep the model"
    )


def _source(request: dict[str, Any] | None, configuration: dict[str, Any]) -> str:
    """SHA-256 of the source file of a cell; empty where it was skipped."""
    of_request = request["model"]["sha256"] if request else ""
    return str(configuration.get("source_sha256") or of_request)


def _words(sweep: str, formats: set[str], runs: bool) -> str:
    facts = [*sorted(formats - {""}), *(["it runs"] if runs else [])]
    return f"{sweep} ({', '.join(facts)})" if facts else sweep
