"""The use cases: register devices and models, submit sweeps, schedule trials, accept results."""
