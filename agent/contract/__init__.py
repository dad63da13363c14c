"""The contract between controller, agent and measured child: wire types, codec, failures.

Standard library only, in Python 3.8 syntax.
"""
