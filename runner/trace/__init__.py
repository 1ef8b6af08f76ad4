"""`python -m runner.trace`: the first module whose output differs between two runs."""
