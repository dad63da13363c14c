"""A model's graph, laid out and drawn."""
