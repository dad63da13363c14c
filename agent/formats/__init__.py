"""Parsers of model files that need no runtime: standard library only, in Python 3.8 syntax."""
