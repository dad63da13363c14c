"""Layout and SVG drawing of a model's graph."""
