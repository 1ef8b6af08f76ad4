"""The journal: answers of runs that did not come to their end, for the next attempt."""
