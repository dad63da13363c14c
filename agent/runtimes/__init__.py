"""The runtimes, one folder each, and the protocols that a runtime's code implements."""
