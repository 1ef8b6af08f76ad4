"""python -m runner.view: serves a run's report with all texts and images, on this machine alone."""
