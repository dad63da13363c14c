"""HTTP: the devices' uplink and the people's API, both below ``/api/v1``."""
