"""Playbooks: what makes a host a board of the farm, over SSH. One file for each device class."""
