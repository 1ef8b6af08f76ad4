"""Runs a suite's entries as the points of one sweep, and judges them together."""
