"""python -m runner.history: values of the same evaluation over time, and the first bad night."""
