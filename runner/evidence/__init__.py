"""What a run asked and was answered, sample by sample: read back, paired, held side by side."""
