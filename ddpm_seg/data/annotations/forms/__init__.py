"""The forms in which annotations come, one a file."""
