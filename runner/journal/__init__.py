"""The journal: answers of unfinished runs, kept for the next attempt."""
