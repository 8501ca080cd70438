"""Reports on what a run produced."""
