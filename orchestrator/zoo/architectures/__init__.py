"""One architecture per module, found by its file's name; see ``orchestrator.zoo.catalogue``."""
