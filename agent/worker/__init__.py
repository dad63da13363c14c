"""The Celery side of the agent: takes doorbells, runs attempts in child processes, reports back."""
