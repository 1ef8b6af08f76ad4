"""Command that checks a running server: python -m runner.probe."""
