"""Readers of single annotation formats, one file per format."""
