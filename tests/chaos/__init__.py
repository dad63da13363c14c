"""A farm of real processes under injected faults; a seed replays the schedule."""
