"""What the agent reads of the board's operating system, and how it writes files for good."""
