"""benchfarm's controller: registers devices, dispatches trials, aggregates results."""
