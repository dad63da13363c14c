"""Runtime environments: what is listed, what is built, and what plans over them."""
