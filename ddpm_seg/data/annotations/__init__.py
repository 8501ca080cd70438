"""Readers of annotated images, in every accepted format."""
