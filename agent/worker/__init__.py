"""The agent's process: takes doorbells, runs attempts in child processes, reports results."""
