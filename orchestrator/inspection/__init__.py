"""Reads uploaded files in a confined child process."""
