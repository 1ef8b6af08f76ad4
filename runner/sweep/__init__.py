"""Sweeps: their points, where each runs, and the comparison of all results."""
