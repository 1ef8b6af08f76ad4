"""Weights and data sets into a directory that can be carried behind a firewall."""
