"""What a run is fed, weights and data sets: where they lie, whether whole, and who they are."""
