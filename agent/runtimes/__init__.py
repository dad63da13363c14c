"""The runtimes, one folder each, and the protocols that their code implements."""
