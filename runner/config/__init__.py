"""Compose conf/ and check the configuration: schema, types and rules."""
