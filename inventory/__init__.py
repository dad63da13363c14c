"""The farm's inventory: device classes, one YAML each below ``classes/``."""
