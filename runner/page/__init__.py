"""report.html: one run on one page, for a reader who has never seen this project."""
