"""Plans, commits and resumes runs. Works on files and tables only: imports neither Ray nor torch."""
