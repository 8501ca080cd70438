"""Avatars-10: the drawn data set with exact labels."""
