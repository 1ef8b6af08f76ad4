"""`python -m runner.trace`: the first module of the network whose output differs between two runs."""
