"""What reads files that people send: imported by a confined child process alone, never by the
controller itself (``orchestrator.sandbox`` starts it; an import contract holds it)."""
