"""Fetch weights and data sets into a directory for an offline machine."""
