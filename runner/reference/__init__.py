"""The run that others are held against: found by directory, MLflow run id or alias, and read."""
