"""Devices: joining, properties, tokens and rights, health check rows, retirement."""
