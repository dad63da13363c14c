"""Runtime environments: the list of them, building them, and planning conversions over them."""
