"""The fleet as a farm file says it: what differs, and making it so on all boards side by side."""
