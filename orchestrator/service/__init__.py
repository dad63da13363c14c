"""The use cases: register, submit, dispatch, ingest, reconcile, health, report."""
