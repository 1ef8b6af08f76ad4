"""A run's inputs, weights and data sets: their location, completeness and identity."""
