"""Facts about this device. One file per kind of fact; ``collect`` puts them together."""

from agent.facts.collect import collect, remote

__all__ = ["collect", "remote"]
