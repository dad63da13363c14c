"""Models: registration, files and formats, data sets, graphs."""
