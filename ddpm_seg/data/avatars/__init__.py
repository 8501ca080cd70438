"""Avatars-10: the rendered data set with exact masks."""
