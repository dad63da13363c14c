"""Health checks: when a device is checked, and what follows from the result."""
