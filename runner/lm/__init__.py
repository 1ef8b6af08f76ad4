"""The code between lm-eval and the engine.

Only the worker imports this package: its dependencies (lm-eval, torch, vLLM) are slow to load.
"""
