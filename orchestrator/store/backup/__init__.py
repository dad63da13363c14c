"""Backups of a farm: writing, restoring, checking."""
