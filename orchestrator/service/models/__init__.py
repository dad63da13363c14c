"""Models: their registration, files, formats, data sets and graphs."""
