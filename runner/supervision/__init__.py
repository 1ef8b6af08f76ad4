"""Supervise the worker process: start, watch, limit, kill and retry it."""
