"""A finished run directory → one flat MLflow run. A copy: nothing here can change a verdict."""
