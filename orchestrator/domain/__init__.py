"""The pure part: what a sweep, a cell and a trial are, and what may happen to them."""
