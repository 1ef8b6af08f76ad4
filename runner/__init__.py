"""Is this stack as accurate as it should be? One command, one verdict: `python -m runner`."""
