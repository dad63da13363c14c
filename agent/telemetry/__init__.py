"""Sensors of a board, one file per source: what is there, and what it reads now.

Parsing is kept apart from reading, so that a sampler can use the parsers alone.
"""
