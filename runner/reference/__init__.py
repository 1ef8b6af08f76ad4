"""Find and read a reference run by directory, MLflow run id or alias."""
