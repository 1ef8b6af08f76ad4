"""A vLLM server, or any OpenAI-compatible one, as an engine."""
