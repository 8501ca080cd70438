"""The mathematics: torch and numpy only, no I/O but bundles."""
