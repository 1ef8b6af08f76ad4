"""Evaluate a served model, judge its accuracy and record the evidence: `python -m runner`."""
