"""Persistence: SQL tables and migrations, content-addressed blobs, backups."""
