"""Opening a farm's database and blobs, with errors that say what to change."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from alembic.util import CommandError
from sqlalchemy import make_url
from sqlalchemy.exc import SQLAlchemyError

from orchestrator.domain.errors import FarmError, UserError
from orchestrator.home import make_home
from orchestrator.settings import Settings
from orchestrator.store.blobs import FolderBlobs
from orchestrator.store.database import Database


def open_migrated_database(settings: Settings) -> Database:
    """The database, upgraded to the newest revision. Raises ``FarmError``: it cannot be used."""
    try:
        database = Database(settings.sqlalchemy_url)
        database.migrate()
    except (SQLAlchemyError, CommandError) as error:
        raise _unusable(settings, error) from None
    return database


def open_blobs(settings: Settings) -> FolderBlobs:
    return FolderBlobs(settings.blobs_folder, settings.max_upload_bytes)


@contextlib.contextmanager
def opened_store(
    settings: Settings, *, create: bool = False
) -> Iterator[tuple[Database, FolderBlobs]]:
    """Database, at whatever revision it is, and blobs of a farm, without a controller.

    Raises:
        UserError: there is no farm, unless ``create``.
        FarmError: the database does not answer.
    """
    url = make_url(settings.sqlalchemy_url)
    file = Path(url.database or "") if url.drivername.startswith("sqlite") else None
    if not create and file is not None and not file.is_file():
        raise UserError(f"there is no farm here: {file} is missing; choose another --home")
    make_home(settings.home)
    try:
        database = Database(settings.sqlalchemy_url)
        try:
            yield database, open_blobs(settings)
        finally:
            database.close()
    except SQLAlchemyError as error:
        raise _unusable(settings, error) from None


def _unusable(settings: Settings, error: Exception) -> FarmError:
    shown = make_url(settings.sqlalchemy_url).render_as_string(hide_password=True)
    first = str(error).strip().splitlines()[0]
    return FarmError(
        f"the database {shown} cannot be used: {first}; is BENCHFARM_DATABASE_URL right?"
    )
