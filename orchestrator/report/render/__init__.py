"""A report as text, tables, charts, HTML and files."""
