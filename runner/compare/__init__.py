"""Compares two runs: whether the second is worse, by how much, on which questions and why."""
