"""Bundles: the folders that models are saved in and opened from."""
