"""Copy a finished run directory to one flat MLflow run; this never changes a verdict."""
