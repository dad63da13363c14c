"""What controller, agent and measured child say to one another: wire types, codec, failures.

Standard library only, in Python 3.8 syntax.
"""
