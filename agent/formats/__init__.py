"""Parsers of model files, without any runtime: standard library only, Python 3.8 syntax."""
