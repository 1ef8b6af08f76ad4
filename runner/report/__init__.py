"""What a person sees of one run: in the terminal, in report.md, in report.html."""
