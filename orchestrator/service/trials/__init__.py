"""The states of trials and attempts, and their samples."""
