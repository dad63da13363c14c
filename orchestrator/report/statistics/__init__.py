"""Statistics of a report: pure functions of samples and estimates."""
