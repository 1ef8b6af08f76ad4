"""Checks a server without a data set: which model it serves, and whether it mixes up requests."""
