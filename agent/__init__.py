"""benchfarm's agent: what runs on a board. It never imports the orchestrator."""

__version__ = "0.1.0"
