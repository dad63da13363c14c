"""What this machine itself runs for the controller: its agent, references, conversions."""
