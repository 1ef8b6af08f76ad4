"""Sketches of module outputs, taken in the worker while an engine computes; for any runtime."""
