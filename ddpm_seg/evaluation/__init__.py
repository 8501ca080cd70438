"""Evaluation of what a run produced: scores, tables and pages."""
