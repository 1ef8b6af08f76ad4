"""Several runs as one: which points there are, where each runs, and what they say together."""
