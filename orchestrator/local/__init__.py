"""What the controller's own machine runs: its agent, reference runs, conversions."""
