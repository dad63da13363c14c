"""What a board's sensors say while it works."""
