"""Boards over SSH, one by one and whole fleets from a file."""
