"""Sweeps: submitting, progress, and what a report is made of."""
