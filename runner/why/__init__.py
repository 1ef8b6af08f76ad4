"""Finds the settings, and the module of the network, that make one run worse than another."""
