"""The one error of reading facts."""

from agent.telemetry.errors import Unreadable

__all__ = ["Unreadable"]
