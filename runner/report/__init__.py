"""The reports of one run: terminal output, report.md and report.html."""
