"""From raw samples to figures with their uncertainty: tables, charts, one self-contained page."""
