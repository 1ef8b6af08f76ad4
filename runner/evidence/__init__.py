"""Sample-level data of runs: reading it, pairing two runs' samples and comparing answers."""
