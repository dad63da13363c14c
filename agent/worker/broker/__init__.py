"""The Celery side: the consumer of this device's queue, its task, and a watchdog."""
