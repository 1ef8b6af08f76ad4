"""Between lm-eval and the engine. Imported in the worker alone: everything here is heavy."""
