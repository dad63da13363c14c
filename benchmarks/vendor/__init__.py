"""Vendors' own tools where they answer in Python: run by path under their interpreters."""
