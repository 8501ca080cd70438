"""Bundles: the folders that models are saved to and opened from."""
