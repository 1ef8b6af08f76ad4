"""Between lm-eval and the vLLM engine. Imported in the worker alone: everything here is heavy."""
