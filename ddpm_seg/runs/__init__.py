"""Plan, commit and resume: files and tables only, no ray, no torch."""
