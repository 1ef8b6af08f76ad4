"""A vLLM plugin with faults that depend on settings, and the settings that make them show."""
