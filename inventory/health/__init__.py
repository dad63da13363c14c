"""The health check's model: two files of one network, and what they give on known inputs."""
