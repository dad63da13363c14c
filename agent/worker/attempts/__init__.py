"""Executing one attempt: fetch, convert, measure, and what is kept of it."""
