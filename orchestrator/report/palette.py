"""The colours of charts and drawings of networks."""

from __future__ import annotations

PALETTE = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#8c6bb1", "#999933")
"""Okabe and Ito's colours (safe for the colour-blind; without black and yellow), and two more."""
