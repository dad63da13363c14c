"""A sweep's report: from raw samples to estimates with intervals, tables, charts and HTML."""
