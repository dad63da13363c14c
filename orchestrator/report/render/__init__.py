"""Renders a report as terminal tables, Markdown, CSV, JSON, charts and HTML."""
