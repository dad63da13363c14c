"""``benchfarm sweep …`` and ``benchfarm report``."""
