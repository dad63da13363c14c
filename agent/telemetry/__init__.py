"""A board's sensors. Each file but ``registry.py`` and ``source.py`` is one telemetry source.

Parsing is separate from reading, so that a sampler can use the parsers alone.
"""
