"""HTTP: the API for devices and the API for people, both below ``/api/v1``."""
