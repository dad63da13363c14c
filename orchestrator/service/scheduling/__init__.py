"""Which trial runs next, where, and what becomes of its attempt."""
