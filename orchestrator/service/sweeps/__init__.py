"""Sweeps: submission, progress, the data of reports, retention."""
