"""What a run produced, in numbers, tables and pages."""
