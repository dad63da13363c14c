"""The statistics of a report: pure functions over samples and estimates."""
