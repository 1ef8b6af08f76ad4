"""Typed messages between the runner and its child processes."""
