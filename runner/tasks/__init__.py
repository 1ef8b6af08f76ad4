"""Chat and reasoning tasks in lm-eval's format: one YAML file per task, and their functions."""
