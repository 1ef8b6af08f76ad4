"""`python -m runner.audit`: how often an accuracy gate passes a worse stack or fails a good one."""
