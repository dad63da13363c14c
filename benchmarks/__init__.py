"""Speed against peers: each module measures two things in one run and prints a ratio."""
