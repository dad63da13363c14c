"""The Celery side: the consumer of this device's queue and its tasks."""
