"""Devices: how they join, what they are, who may do what, and how they leave."""
